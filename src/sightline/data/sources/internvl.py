"""InternVL's meta file, as MMPR ships it: `{name: {root, annotation, repeat_time, length, …}}` → parts.

The annotation paths in the published file are those of the authors' disks; a path that does not exist is looked for
next to the meta file by its last folders.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from sightline.data.rows import Part
from sightline.data.sources.jsonl import JsonLines
from sightline.errors import DataError, shown

MOST_TIMES = 1_000_000
"""That an entry may be repeated; more is a damaged file's."""


def is_meta(content: Any) -> bool:
    """Whether a JSON file's content is a meta file."""
    if not isinstance(content, Mapping) or not content:
        return False
    return all(isinstance(entry, Mapping) and {"root", "annotation"} <= set(entry) for entry in content.values())


def read_meta(path: Path, content: Mapping[str, Any]) -> list[Part]:
    """One part an entry, weighted by `repeat_time`. Raises `DataError` for a missing annotation file."""
    parts: list[Part] = []
    for name, entry in content.items():
        _check_entry(path, name, entry)
        annotation = _find(path, str(entry["annotation"]))
        if annotation is None or not annotation.is_file():
            raise DataError(
                f"{path}: the annotation file of {name!r}, {str(entry['annotation'])!r}, is not there, nor next to the "
                "meta file by its last folders. Put the annotations beside the meta file, or fix its paths."
            )
        root = _find(path, str(entry["root"])) or path.parent / str(entry["root"])
        weight = float(entry.get("repeat_time", 1))
        status = annotation.stat()
        stamp = f"{annotation.resolve()} {status.st_size} {status.st_mtime_ns}"
        parts.append(Part(table=JsonLines(annotation), source=name, media_dir=root, weight=weight, stamp=stamp))
    return parts


def _check_entry(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Raises `DataError` for values of another kind than a meta file has."""
    weight = entry.get("repeat_time", 1)
    is_number = isinstance(weight, int | float) and not isinstance(weight, bool)
    wanted = {
        "root": (isinstance(entry["root"], str), "a folder"),
        "annotation": (isinstance(entry["annotation"], str), "a file"),
        "repeat_time": (is_number and 0 < weight <= MOST_TIMES, f"a number above 0, at most {MOST_TIMES:,}"),
    }
    for key, (holds, expected) in wanted.items():
        if not holds:
            raise DataError(
                f"{path}: {key} of {shown(name)!r} is {shown(entry.get(key))!r}; expected is {expected}. Fix the file."
            )


def _find(meta: Path, name: str) -> Path | None:
    """The path itself, or the same last folders beside the meta file or one folder above; None where there is none."""
    given = Path(name)
    candidates = [given] if given.is_absolute() else [meta.parent / given]
    tails = [Path(*given.parts[i:]) for i in range(len(given.parts)) if given.parts[i] != "/"]
    candidates += [folder / tail for tail in tails for folder in (meta.parent, meta.parent.parent)]
    return next((c for c in candidates if c.exists()), None)
