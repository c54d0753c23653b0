"""Webdataset tar files as tables: the members that share a name up to its first dot are one row.

Pictures become `images`, `.json` its keys, `.txt` the column `caption`, and `NAME.column.txt` that column. Members are
indexed once and read where they lie; nothing is extracted, links and everything else are left alone.
"""

import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from sightline.data.defects import RowError
from sightline.data.jsonl import MAX_LINE, parse_json
from sightline.errors import DataError

PICTURE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif")


class Member(NamedTuple):
    """A file inside the archive: what follows the first dot of its name, and where its bytes lie."""

    suffix: str
    offset: int
    size: int


class Tar:
    """The rows of one uncompressed tar file. Raises `DataError` for another file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        samples: dict[str, list[Member]] = {}
        try:
            with tarfile.open(path, "r:") as archive:
                for info in archive:
                    folder, _, name = info.name.rpartition("/")
                    key, _, suffix = name.partition(".")
                    if info.isreg() and _kind(suffix) and not name.startswith("."):
                        samples.setdefault(f"{folder}/{key}", []).append(
                            Member(suffix.lower(), info.offset_data, info.size)
                        )
        except (tarfile.TarError, OSError) as error:
            raise DataError(
                f"{path}: not a readable tar file ({error}). Expected an uncompressed webdataset shard."
            ) from error
        self._samples = list(samples.values())

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        where = f"{self.path.name}, row {index}"
        row: dict[str, Any] = {}
        pictures = []
        with self.path.open("rb") as file:
            for member in sorted(self._samples[index]):
                if member.size > MAX_LINE:
                    what = f"the member .{member.suffix} has {member.size:,} bytes, more than {MAX_LINE:,} are not read"
                    raise RowError("row unreadable", where, what)
                file.seek(member.offset)
                content = file.read(member.size)
                if _kind(member.suffix) == "picture":
                    pictures.append({"bytes": content, "path": None})
                else:
                    row |= _columns(member.suffix, content, where)
        return {**row, "images": pictures} if pictures else row

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            try:
                yield self[index]
            except RowError as error:
                yield error


def _kind(suffix: str) -> str | None:
    last = suffix.lower().rpartition(".")[2]
    return "picture" if last in PICTURE_SUFFIXES else last if last in ("json", "txt") else None


def _columns(suffix: str, content: bytes, where: str) -> dict[str, Any]:
    """The columns that a text member holds."""
    if suffix.endswith("json"):
        value = parse_json(content, where)
        if not isinstance(value, dict):
            raise RowError("row unreadable", where, f"the member .{suffix} is not a JSON object")
        return value
    try:
        text = content.decode("utf-8-sig").strip()
    except UnicodeDecodeError as error:
        raise RowError("row unreadable", where, f"the member .{suffix} is not UTF-8: {error}") from error
    return {suffix.rpartition(".")[0] or "caption": text}
