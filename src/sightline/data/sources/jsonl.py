"""JSON and JSON Lines files as tables of rows: lines are found once and parsed when they are asked for."""

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from sightline.data.defects import RowError
from sightline.data.sources.reader import Reader, State, Table
from sightline.errors import DataError

MAX_LINE = 64 * 2**20
"""Bytes of the longest line that is parsed. Longer ones are whole files on one line, or an attack."""


class JsonLines(Table):
    """Rows of a JSON Lines file; blank lines are left out. Lines are found when a row is asked for by its number."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return len(self._lines)

    def __getitem__(self, index: int) -> Any:
        start, length = map(int, self._lines[index])
        where = f"{self.path.name}, row {index}"
        if length > MAX_LINE:
            raise _too_long(where, length)
        with self.path.open("rb") as file:
            file.seek(start)
            line = file.read(length)
        return parse_json(line, where)

    def reader(self, state: State) -> "LineReader":
        """From a line on."""
        return LineReader(self.path, state)

    @cached_property
    def _lines(self) -> Int[np.ndarray, "rows 2"]:
        """Position and length of every line that is not blank."""
        found, position = [], 0
        for length, is_blank in _line_lengths(self.path):
            if not is_blank:
                found.append((position, length))
            position += length
        return np.array(found, dtype=np.int64).reshape(-1, 2)


class LineReader(Reader):
    """Reads a JSON Lines file line by line."""

    def __init__(self, path: Path, state: State) -> None:
        self.path, self.number = path, state.get("number", 0)
        self._size = path.stat().st_size
        self._file = path.open("rb")
        self._file.seek(state.get("offset", 0))

    def __next__(self) -> Any:
        while line := self._file.readline(MAX_LINE + 1):
            if line.isspace():
                continue
            where = f"{self.path.name}, row {self.number}"
            self.number += 1
            if len(line) > MAX_LINE:
                return _too_long(where, len(line) + self._skip_line(line))
            try:
                return parse_json(line, where)
            except RowError as error:
                return error
        self._file.close()
        raise StopIteration

    def state(self) -> dict[str, Any]:
        """The row's number, and where its line begins."""
        return {"number": self.number, "offset": self._size if self._file.closed else self._file.tell()}

    @property
    def progress(self) -> float:
        """Bytes read among all."""
        return self.state()["offset"] / max(self._size, 1)

    def _skip_line(self, line: bytes) -> int:
        """Read on to the end of the line; how many bytes that was."""
        skipped = 0
        while line and not line.endswith(b"\n"):
            line = self._file.readline(2**22)
            skipped += len(line)
        return skipped


def _too_long(where: str, length: int) -> RowError:
    what = f"the line has {length:,} bytes, more than {MAX_LINE:,} are not parsed"
    return RowError("row unreadable", where, what)


def read_json(path: Path) -> Any:
    """What a `.json` file holds: its value, or a table where it has one object a line. Raises `DataError`."""
    with path.open("rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"{") and _first_line_is_a_row(path):
        return JsonLines(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not JSON ({error}). Expected a list of rows. Fix the file, or write one row a line."
        ) from error


def parse_json(line: bytes, where: str) -> Any:
    """One line's value. Raises `RowError` for what is not JSON in UTF-8."""
    try:
        return json.loads(line.decode("utf-8-sig"), object_pairs_hook=_once)
    except (ValueError, RecursionError) as error:
        raise RowError("row unreadable", where, f"the line is not JSON: {error}") from error


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of these keys and values. Raises `ValueError` for a key that stands twice: one would be lost."""
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"the key {next(key for key in keys if keys.count(key) > 1)!r:.60} stands twice in one object")
    return found


def _first_line_is_a_row(path: Path) -> bool:
    """Whether the first line is a whole object and another follows: a `.json` file that is JSON Lines inside."""
    with path.open("rb") as file:
        first = file.readline(MAX_LINE)
        second = file.readline(64).strip()
    try:
        return second.startswith(b"{") and isinstance(json.loads(first.decode("utf-8-sig")), dict)
    except (ValueError, RecursionError):
        return False


def _line_lengths(path: Path, chunk: int = 2**22) -> Iterator[tuple[int, bool]]:
    """(bytes with the line break, is blank) of every line, in constant memory however long a line is."""
    length, is_blank = 0, True
    with path.open("rb") as file:
        while data := file.read(chunk):
            for piece in data.splitlines(keepends=True) if b"\r" not in data else _split_at_newline(data):
                length += len(piece)
                is_blank = is_blank and not piece.strip()
                if piece.endswith(b"\n"):
                    yield length, is_blank
                    length, is_blank = 0, True
    if length:
        yield length, is_blank


def _split_at_newline(data: bytes) -> list[bytes]:
    r"""Pieces ending in \n; `bytes.splitlines` would also cut at a lone \r."""
    pieces = data.split(b"\n")
    return [p + b"\n" for p in pieces[:-1]] + ([pieces[-1]] if pieces[-1] else [])
