"""Webdataset tar files as tables: the members that share a name up to its first dot are one row.

Images become `images`, in the order of the archive, or in that of the list `images` of the row's JSON, which may name
them. `.json` gives its keys, `.txt` the column `caption`, and `NAME.column.txt` that column; two members that write one
column are refused. Video, sound and images of other kinds become columns, so that the row says so. Members are read
where they lie; nothing is extracted, links and everything else are left alone. Read front to back, a row's members have
to follow one another, as webdataset writes them.
"""

import io
import tarfile
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

from sightline.data.defects import RowError
from sightline.data.media.kinds import kind_of_name
from sightline.data.sources.jsonl import MAX_LINE, parse_json
from sightline.data.sources.reader import Reader, State, Table
from sightline.errors import DataError

IMAGE_SUFFIXES = ("jpg", "jpeg", "png", "webp", "gif", "bmp", "tif", "tiff", "avif", "jp2", "ppm", "pgm")
LISTED = ("images", "image")
"""Keys of a row's JSON that may name its images, in order."""


class Member(NamedTuple):
    """A file inside the archive: what follows the first dot of its name, and where its bytes lie.

    key: its name up to that dot. header: where the member begins.
    """

    suffix: str
    offset: int
    size: int
    key: str
    header: int


class Tar(Table):
    """The rows of one uncompressed tar file. Raises `DataError` for another file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as file:
            next(_members(file, path, 0), None)  # another kind of file is refused at once

    def __len__(self) -> int:
        return len(self._samples)

    def __getitem__(self, index: int) -> dict[str, Any]:
        with self.path.open("rb") as file:
            return _row(file, self._samples[index], f"{self.path.name}, row {index}")

    def reader(self, state: State) -> "TarReader":
        """From a member on."""
        return TarReader(self.path, state)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            try:
                yield self[index]
            except RowError as error:
                yield error

    @cached_property
    def _samples(self) -> list[list[Member]]:
        """The members of each row, wherever they lie."""
        samples: dict[str, list[Member]] = {}
        with self.path.open("rb") as file:
            for member in _members(file, self.path, 0):
                samples.setdefault(member.key, []).append(member)
        return list(samples.values())


class TarReader(Reader):
    """Reads a tar file sample by sample."""

    def __init__(self, path: Path, state: State) -> None:
        self.path, self.number = path, state.get("number", 0)
        self._size = path.stat().st_size
        self._headers = path.open("rb")
        self._contents = path.open("rb")
        self._members = _members(self._headers, path, state.get("offset", 0))
        self._next = next(self._members, None)

    def __next__(self) -> Any:
        if self._next is None:
            self._headers.close()
            self._contents.close()
            raise StopIteration
        sample = [self._next]
        while (following := next(self._members, None)) is not None and following.key == sample[0].key:
            sample.append(following)
        self._next = following
        where = f"{self.path.name}, row {self.number}"
        self.number += 1
        try:
            return _row(self._contents, sample, where)
        except RowError as error:
            return error

    def state(self) -> dict[str, Any]:
        """The row's number, and where its first member begins."""
        return {"number": self.number, "offset": self._size if self._next is None else self._next.header}

    @property
    def progress(self) -> float:
        """Bytes read among all."""
        return self.state()["offset"] / max(self._size, 1)


def _members(file: BinaryIO, path: Path, start: int) -> Iterator[Member]:
    """The members that rows are made of, from byte `start` on. Raises `DataError` for what is no tar, or damaged."""
    try:
        if start == file.seek(0, io.SEEK_END) and start:
            return
        file.seek(start)
        archive = tarfile.TarFile(fileobj=file)
        while (info := archive.next()) is not None:
            archive.members = []  # type: ignore[attr-defined]  # the library would keep them all
            folder, _, name = info.name.rpartition("/")
            key, _, suffix = name.partition(".")
            if info.isreg() and _kind(suffix) and not name.startswith("."):
                yield Member(suffix.lower(), info.offset_data, info.size, f"{folder}/{key}", info.offset)
        # The library takes a damaged header for the end; at a real one there are zeros, or nothing.
        file.seek(archive.offset)
        if file.read(tarfile.BLOCKSIZE).strip(b"\0"):
            raise tarfile.ReadError(f"no member begins at byte {archive.offset:,}")
    except (tarfile.TarError, OSError) as error:
        raise DataError(
            f"{path}: not a readable tar file ({error}). Expected an uncompressed webdataset shard."
        ) from error


def _row(file: BinaryIO, members: list[Member], where: str) -> dict[str, Any]:
    """The columns of a sample. Raises `RowError`."""
    row: dict[str, Any] = {}
    images: dict[str, dict[str, Any]] = {}
    writers: dict[str, str] = {}
    for member in members:
        if member.size > MAX_LINE:
            what = f"the member .{member.suffix} has {member.size:,} bytes, more than {MAX_LINE:,} are not read"
            raise RowError("row unreadable", where, what)
        kind = _kind(member.suffix)
        if kind == "media":
            columns = {member.suffix: _name(member)}
        else:
            file.seek(member.offset)
            content = file.read(member.size)
            if kind == "image":
                if member.suffix in images:
                    raise RowError("columns disagree", where, f"two members are called {_name(member)}")
                images[member.suffix] = {"bytes": content, "path": _name(member)}
                continue
            columns = _columns(member.suffix, content, where)
        for column in columns:
            if column in writers:
                what = f"the members .{writers[column]} and .{member.suffix} both write the column {column!r:.60}"
                raise RowError("columns disagree", where, f"{what}; a row's name ends at its first dot")
            writers[column] = member.suffix
        row |= columns
    return _with_images(row, images, where) if images else row


def _with_images(row: dict[str, Any], images: dict[str, dict[str, Any]], where: str) -> dict[str, Any]:
    """The row with its images in `images`. Raises `RowError` where its JSON names others."""
    listed = next((name for name in LISTED if row.get(name) not in (None, [], "")), None)
    if listed is None:
        return {**row, "images": list(images.values())}
    names = row[listed] if isinstance(row[listed], list) else [row[listed]]
    rest = {key: value for key, value in row.items() if key != listed}
    if len(names) == len(images) == 1:
        return {**rest, "images": list(images.values())}  # one image, which may have had another name before
    found = [_called(name, images) if isinstance(name, str) else None for name in names]
    if None in found or len({id(one) for one in found}) != len(images):
        have = ", ".join(str(image["path"]) for image in images.values())
        what = f"{listed} in the JSON is {names!r:.120} and the sample has the images {have:.200}"
        raise RowError("columns disagree", where, what)
    return {**rest, "images": found}


def _called(name: str, images: dict[str, dict[str, Any]]) -> dict[str, Any] | None:
    """The image that a list means: by its whole name, by what follows the row's name, or by that without ending."""
    last = name.rpartition("/")[2].lower()
    for suffix, image in images.items():
        if last in (image["path"].lower(), suffix, suffix.rpartition(".")[0]):
            return image
    return None


def _name(member: Member) -> str:
    return f"{member.key.rpartition('/')[2]}.{member.suffix}"


def _kind(suffix: str) -> str | None:
    last = suffix.lower().rpartition(".")[2]
    if last in IMAGE_SUFFIXES:
        return "image"
    if last in ("json", "txt"):
        return last
    return "media" if kind_of_name(f".{last}") else None


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
