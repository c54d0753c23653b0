"""Commands in processes of their own that share what is imported: a fork each, with limits of time and memory."""

import contextlib
import importlib
import io
import os
import re
import resource
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

SECONDS = 120
BYTES = 4 * 2**30


class Outcome(NamedTuple):
    """How a command ended. code: its exit code, -signal, or None where it did not end. said: all that it wrote."""

    code: int | None
    said: str
    seconds: float

    @property
    def kind(self) -> str:
        """`done`, `named` (one paragraph, exit 1 or 2), or what is a fault: `traceback`, `fault`, `killed`, `hung`."""
        if self.code is None:
            return "hung"
        if "Traceback (most recent call last)" in self.said:
            return "traceback"
        if self.code < 0:
            return "killed"
        if self.code not in (0, 1, 2):
            return "fault"
        return "done" if self.code == 0 else "named"

    @property
    def is_fault(self) -> bool:
        return self.kind not in ("done", "named")

    @property
    def complaint(self) -> str:
        """The paragraph, or the last line that was written."""
        lines = [line for line in self.said.splitlines() if line.strip()]
        told = [line for line in lines if re.match(r"error:|stopped:|fault:", line)]
        return (told or lines or ["(nothing said)"])[-1]


def import_what_is_used(argv: list[str], log: Path) -> Outcome:
    """Run a command in a fork, and import here what it imported there, so that no later fork has to."""
    names = log.with_suffix(".modules")

    def work() -> int:
        from sightline.cli.main import main

        try:
            return main(argv)
        finally:
            names.write_text("\n".join(sorted(sys.modules)))

    outcome = forked(work, log)
    for name in names.read_text().split():
        if name.startswith(
            ("sightline", "transformers", "datasets", "PIL", "rich", "peft", "matplotlib", "accelerate")
        ):
            with contextlib.suppress(Exception):
                importlib.import_module(name)
    return outcome


def command(argv: list[str], log: Path) -> Outcome:
    """`sightline argv…` in a fork."""

    def work() -> int:
        from sightline.cli.main import main

        return main(argv)

    return forked(work, log)


def forked(work: Callable[[], int], log: Path) -> Outcome:
    """Run `work`, which returns an exit code, in a fork; what it writes goes to `log`."""
    began = time.monotonic()
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _child(work, log)
    status = None
    try:
        while status is None and time.monotonic() < began + SECONDS:
            ended, found = os.waitpid(child, os.WNOHANG)
            status = found if ended else None
            time.sleep(0.01)
    finally:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(child, signal.SIGKILL)  # what it may have started, too
        if status is None:
            os.waitpid(child, 0)
    code = None if status is None else os.waitstatus_to_exitcode(status)
    return Outcome(code, log.read_text(errors="replace") if log.exists() else "", time.monotonic() - began)


def _child(work: Callable[[], int], log: Path) -> None:
    code = 99
    try:
        os.setsid()
        handle = os.open(log, os.O_CREAT | os.O_TRUNC | os.O_WRONLY)
        for stream in (1, 2):
            os.dup2(handle, stream)
        sys.stdout = io.TextIOWrapper(
            os.fdopen(1, "wb", closefd=False), "utf-8", "backslashreplace", write_through=True
        )
        sys.stderr = io.TextIOWrapper(
            os.fdopen(2, "wb", closefd=False), "utf-8", "backslashreplace", write_through=True
        )
        now = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
        resource.setrlimit(resource.RLIMIT_AS, (now + BYTES,) * 2)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        os.environ["COLUMNS"] = "1000"
        code = work()
    except BaseException:
        traceback.print_exc()
    finally:
        with contextlib.suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(code)


def note(faults: list[str], fault: str) -> None:
    """Keep a fault, and print it at once."""
    faults.append(fault)
    print(fault, flush=True)


def report(title: str, outcomes: dict[str, str]) -> None:
    """Print how many cases had which outcome."""
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(Counter(outcomes.values()).items()))
    print(f"\n{title}: {len(outcomes)} cases: {counts}", flush=True)
