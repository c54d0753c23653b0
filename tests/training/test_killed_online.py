"""A run killed with -9 while it waits, samples, judges, updates, evaluates or saves goes on: no prompt lost, none
repeated."""

import os
import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
from safetensors.torch import load_file

from tests.training.killed_online import PHASES
from tests.training.runs import figures


def sampled(folder: Path) -> list[tuple[int, str, str]]:
    """Step, row and answer of everything in the tables of answers."""
    tables = [pq.read_table(path).to_pylist() for path in sorted((folder / "completions").glob("*.parquet"))]
    return [(row["step"], row["row"], row["completion"]) for table in tables for row in table]


def test_a_run_killed_in_any_phase_goes_on_with_the_same_prompts_answers_and_bits(tmp_path, tiny_model):
    command = [sys.executable, "-m", "tests.training.killed_online", str(tmp_path), str(tiny_model("llava"))]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    assert done.stdout.decode().split() == list(PHASES)
    whole = tmp_path / "whole"
    rows = [row for step, row, _ in sampled(whole)[::4]]
    assert sorted(rows[:6]) == [f"rows:{i}" for i in range(6)], "an epoch sees every prompt once"
    weights = load_file(whole / "adapter_model.safetensors")
    for phase in PHASES:
        assert sampled(tmp_path / phase) == sampled(whole), phase
        assert figures(tmp_path / phase) == figures(whole), phase
        again = load_file(tmp_path / phase / "adapter_model.safetensors")
        assert all(bool((weights[name] == again[name]).all()) for name in weights), phase
