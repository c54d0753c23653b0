"""What is there instead of a file that is not: a name that looks the same and is written otherwise."""

import os
import unicodedata
from functools import lru_cache
from pathlib import Path

LARGEST = 100_000
"""Names in a folder above which none is looked for."""


def almost(path: Path) -> str:
    """How the name of a file that is there differs, for the end of a message; empty where none is like it."""
    if "\\" in path.name:
        return "; its backslashes are part of the name here, folders are parted by /"
    try:
        there = _names(path.parent, path.parent.stat().st_mtime_ns).get(_plain(path.name))
    except (OSError, ValueError):
        return ""
    if there is None:
        return ""
    if _composed(there) == _composed(path.name):
        return f"; {there!a} is there, the same letters in another Unicode form than {path.name!a}"
    return f"; {there!r} is there, which differs in upper and lower case"


@lru_cache(maxsize=16)
def _names(folder: Path, changed: int) -> dict[str, str]:
    """The names in a folder by their plain form."""
    with os.scandir(folder) as entries:
        names = [entry.name for _, entry in zip(range(LARGEST), entries, strict=False)]
    return {_plain(name): name for name in names}


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _plain(name: str) -> str:
    return _composed(name).casefold()
