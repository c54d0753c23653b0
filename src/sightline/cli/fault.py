"""An exception that no code foresaw, as one paragraph: what was being done, with what, and where its traceback lies."""

import errno
import os
import platform
import tempfile
import traceback
from pathlib import Path
from types import TracebackType

from sightline import __version__
from sightline.errors import shown

FAULT = 70
"""Exit code, as `sysexits.h` has it for a fault of the program itself."""

OF_THE_MACHINE = {
    errno.ENOSPC: "free some space, or write elsewhere",
    errno.EDQUOT: "free some space, or write elsewhere",
    errno.EACCES: "see who may read or write it",
    errno.EPERM: "see who may read or write it",
    errno.EROFS: "write elsewhere",
    errno.EIO: "the disk or its network failed",
    errno.ENAMETOOLONG: "take a shorter name",
    errno.EMFILE: "raise `ulimit -n`, or take fewer workers",
    errno.ENFILE: "too many files are open on this machine",
}
"""What an operating system refuses, and what to do then: no fault of the program's."""

AT_HAND = ("where", "row", "path", "file", "source", "folder", "checkpoint")
"""Local names that say with which file or row a function was at work."""


def told(error: Exception, argv: list[str]) -> tuple[str, int]:
    """The paragraph and the exit code."""
    command = shown(" ".join(["sightline", *argv]), 200)
    if isinstance(error, OSError) and error.errno in OF_THE_MACHINE:
        name = "" if error.filename is None else f" {shown(error.filename)}"
        return f"stopped: `{command}`:{name}: {error.strerror}; {OF_THE_MACHINE[error.errno]}.", 1
    if isinstance(error, MemoryError):
        return f"stopped: `{command}` asked for more memory than this machine has left ({_place(error)}).", 1
    said = shown(error) or "without a message"
    return (
        f"fault: `{command}` ended in {type(error).__name__} ({said}) in {_place(error)}. This is a fault of "
        f"Sightline, not of yours: a mistake would have been named. {_kept(error, command)} Please report it with that "
        "and what `sightline env` prints (docs/faq.md, How do I report a bug?).",
        FAULT,
    )


def _place(error: Exception) -> str:
    """The innermost function of ours, and the file or row that it, or whoever called it, was at work with."""
    frames = _frames(error.__traceback__)
    ours = [frame for frame in frames if frame.f_globals.get("__name__", "").startswith("sightline.")]
    if not ours:
        return "a library"
    code = ours[-1].f_code
    place = f"{ours[-1].f_globals['__name__']}.{getattr(code, 'co_qualname', code.co_name)}, line {ours[-1].f_lineno}"
    for frame in reversed(ours):
        found = [f"{name} {shown(value, 80)}" for name in AT_HAND if _says(value := frame.f_locals.get(name))]
        if found:
            return f"{place}, with {' and '.join(found[:2])}"
    return place


def _says(value: object) -> bool:
    return isinstance(value, Path | str | int) and not isinstance(value, bool) and value != ""


def _frames(found: TracebackType | None) -> list:
    frames = []
    while found is not None:
        frames.append(found.tb_frame)
        found = found.tb_next
    return frames


def _kept(error: Exception, command: str) -> str:
    """Where the traceback was written; the traceback itself where nothing can be."""
    versions = f"sightline {__version__}, Python {platform.python_version()}, {platform.platform()}"
    text = "".join(traceback.format_exception(error))
    try:
        handle, name = tempfile.mkstemp(prefix="sightline-fault-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(f"{command}\n{versions}\n\n{text}")
    except OSError:
        return f"Its traceback: {shown(text, 4000)}"
    return f"Its traceback is in {name}."
