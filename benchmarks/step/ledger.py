"""Finished runs, a JSON line each, so that a long comparison can stop and go on.

A run counts again only if the code that it measured, the versions of the packages and its case are the same.
"""

import hashlib
import json
import os
import platform
import time
from collections.abc import Callable
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.step.case import Case, Measured, read_measured
from benchmarks.step.runner import measure

ROOT = Path(__file__).parent.parent.parent
SOURCES = ("src/sightline", "benchmarks/step")


class Paused(Exception):
    """The time that the comparison was given is over; the same command goes on."""


class Ledger:
    """Runs by what they are for. minutes: how long new runs may be started; None is as long as it takes."""

    def __init__(
        self, out: Path, minutes: float | None = None, run: Callable[[Case, Path], Measured] = measure
    ) -> None:
        self.out, self.run = out, run
        self.path = out / "ledger.jsonl"
        self.stamp = stamp()
        self.ends = None if minutes is None else time.monotonic() + 60 * minutes
        self.known: dict[str, str] = {}
        if self.path.exists():
            for line in self.path.read_text().splitlines():
                entry = json.loads(line)
                if entry["stamp"] == self.stamp:
                    self.known[entry["key"]] = entry["measured"]

    def measured(self, purpose: str, case: Case) -> tuple[Case, Measured]:
        """What was measured for this purpose before, or else now. Raises `Paused` when time is up."""
        key = f"{purpose} {case.to_json()}"
        if key not in self.known:
            self.pause_if_over()
            found = self.run(case, self.out).to_json()
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self.path.open("a") as lines:
                lines.write(json.dumps({"stamp": self.stamp, "key": key, "measured": found}) + "\n")
            self.known[key] = found
        return case, read_measured(self.known[key])

    def pause_if_over(self) -> None:
        if self.ends is not None and time.monotonic() > self.ends:
            raise Paused


def stamp() -> dict[str, Any]:
    """What a measurement depends on: the code, the machine, the packages."""
    code = hashlib.sha256()
    for folder in SOURCES:
        for path in sorted((ROOT / folder).rglob("*.py")):
            code.update(path.relative_to(ROOT).as_posix().encode() + path.read_bytes())
    packages = ("torch", "transformers", "trl", "peft", "accelerate")
    return {
        "code": code.hexdigest()[:16],
        "cpus": os.cpu_count(),
        "processor": processor_name(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def processor_name() -> str:
    """As the kernel names it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text().splitlines() if path.exists() else []
    named = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(named, platform.machine())


def as_record(run: tuple[Case, Measured]) -> dict[str, Any]:
    """A run for runs.json."""
    case, measured = run
    return {"case": asdict(case), "measured": asdict(measured)}
