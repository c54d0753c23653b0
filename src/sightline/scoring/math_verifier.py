"""math-verify, from any thread and with a time limit that holds.

math-verify stops itself with an alarm, which works in the main thread only, and an alarm does not end a computation
inside one C call (9^9^9^9). So it runs in a process of its own, which is ended and started anew when the time is up.
"""

import atexit
import json
import select
import subprocess
import sys
import threading
from collections.abc import Sequence
from functools import cache
from typing import NamedTuple

from sightline.errors import RewardError

START_SECONDS = 60.0
"""Time for the process to import what it needs on a busy machine."""


class Verdict(NamedTuple):
    """same: whether they are the same mathematics; None where the truth is none. values: where they are not, the
    truth's readings and the answer's as numbers, None where they are none."""

    same: bool | None
    truth_values: list[float | None]
    answer_values: list[float | None]


class MathVerifier:
    """Compares answers with truths, one at a time, whoever asks. num_timeouts: comparisons given up so far."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.num_timeouts = 0
        self.lock = threading.Lock()
        self.process: subprocess.Popen[str] | None = None
        atexit.register(self.close)

    def compare(self, truths: Sequence[str], answers: Sequence[str]) -> Verdict:
        """Whether any reading of the answer is one of the truth, in LaTeX without `$`; not when it takes too long."""
        with self.lock:
            process = self.process or self._start()
            assert process.stdin is not None
            process.stdin.write(json.dumps([list(truths), list(answers)]) + "\n")
            process.stdin.flush()
            line = self._read(process, self.seconds)
            if line is None:
                self.num_timeouts += 1
                self.close()
                return Verdict(False, [None] * len(truths), [None] * len(answers))
            found = json.loads(line)
            return Verdict(found["same"], *found["values"])

    def close(self) -> None:
        """End the process; the next question starts another."""
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None

    def _start(self) -> subprocess.Popen[str]:
        self.process = subprocess.Popen(
            [sys.executable, "-m", "sightline.scoring.math_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        if self._read(self.process, START_SECONDS) is None:
            self.close()
            raise RewardError(f"The process that runs math-verify did not start within {START_SECONDS:g} seconds.")
        return self.process

    def _read(self, process: subprocess.Popen[str], seconds: float) -> str | None:
        """The next line, or None when there is none in time."""
        assert process.stdout is not None
        ready, _, _ = select.select([process.stdout], [], [], seconds)
        if not ready:
            return None
        line = process.stdout.readline()
        if not line:
            self.close()
            raise RewardError("The process that runs math-verify ended by itself; its message stands above.")
        return line


@cache
def verifier(seconds: float) -> MathVerifier:
    """The verifier with this time limit; one process serves all who ask."""
    return MathVerifier(seconds)
