"""The profile puts its clock around functions of the step by name, and books time to each of them."""

import subprocess
import sys


def test_it_runs_and_every_part_of_the_step_takes_time() -> None:
    command = [sys.executable, "-m", "benchmarks.step.profile", "--task", "grpo", "--toy", "--steps", "3"]
    ended = subprocess.run(command, capture_output=True, text=True, check=True, timeout=600)
    table = {line[:22].strip(): line[22:].split() for line in reversed(ended.stdout.splitlines())}
    for part in ("vision tower", "layout", "reference forward", "policy forward", "head", "backward"):
        milliseconds = table[part][4]
        assert float(milliseconds) > 0, part
