"""JSON and JSON Lines files as tables of rows: lines are found once and parsed when they are asked for."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.defects import RowError
from sightline.errors import DataError

MAX_LINE = 64 * 2**20
"""Bytes of the longest line that is parsed. Longer ones are whole files on one line, or an attack."""


class JsonLines:
    """Rows of a JSON Lines file; blank lines are left out. Only line positions are kept in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        starts, lengths, position = [], [], 0
        for length, is_blank in _line_lengths(path):
            if not is_blank:
                starts.append(position)
                lengths.append(length)
            position += length
        self._starts, self._lengths = np.array(starts, dtype=np.int64), np.array(lengths, dtype=np.int64)

    def __len__(self) -> int:
        return len(self._starts)

    def __getitem__(self, index: int) -> Any:
        where = f"{self.path.name}, row {index}"
        length = int(self._lengths[index])
        if length > MAX_LINE:
            raise RowError(
                "row unreadable", where, f"the line has {length:,} bytes, more than {MAX_LINE:,} are not parsed"
            )
        with self.path.open("rb") as file:
            file.seek(int(self._starts[index]))
            line = file.read(length)
        return parse_json(line, where)

    def __iter__(self) -> Iterator[Any]:
        for index in range(len(self)):
            try:
                yield self[index]
            except RowError as error:
                yield error


def read_json(path: Path) -> Any:
    """What a `.json` file holds: its value, or a table where it has one object a line. Raises `DataError`."""
    with path.open("rb") as file:
        head = file.read(4096).lstrip(b"\xef\xbb\xbf \t\r\n")
    if head.startswith(b"{") and _first_line_is_a_row(path):
        return JsonLines(path)
    try:
        return json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise DataError(
            f"{path}: not JSON ({error}). Expected a list of rows. Mend the file, or write one row a line."
        ) from error


def parse_json(line: bytes, where: str) -> Any:
    """One line's value. Raises `RowError` for what is not JSON in UTF-8."""
    try:
        return json.loads(line.decode("utf-8-sig"))
    except (ValueError, RecursionError) as error:
        raise RowError("row unreadable", where, f"the line is not JSON: {error}") from error


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
