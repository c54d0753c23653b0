"""CSV and TSV files as tables: a header, then one row a record. Empty cells are missing; all else is the cell's text.

Formats read lists of images and messages out of such texts; an answer such as `[12, 8, 50, 40]` stays one.
"""

import csv
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

from sightline.data.defects import RowError
from sightline.data.sources.reader import Reader, State, Table
from sightline.errors import DataError

MAX_CELL = 16 * 2**20
"""Characters of the longest cell that is read."""


class Delimited(Table):
    """The records of a `.csv` or `.tsv` file; one with too many or too few cells is its error. Raises `DataError`."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __len__(self) -> int:
        return len(self._records)

    def __getitem__(self, index: int) -> Any:
        return self._records[index]

    def reader(self, state: State) -> "DelimitedReader":
        """From a record on."""
        return DelimitedReader(self.path, state)

    @cached_property
    def _records(self) -> list[Any]:
        return list(self.reader({}))


class DelimitedReader(Reader):
    """Reads a table record by record."""

    def __init__(self, path: Path, state: State) -> None:
        csv.field_size_limit(MAX_CELL)
        self.path, self.number = path, state.get("number", 0)
        self._size = path.stat().st_size
        self._file = path.open("rb")
        self._offset = 0
        self._records = csv.reader(self._lines(), delimiter="\t" if path.suffix.lower() == ".tsv" else ",", strict=True)
        self._header = self._record() or []
        twice = next((name for name in self._header if self._header.count(name) > 1), None)
        if twice is not None:
            raise DataError(f"{path}: two columns are called {twice!r:.60}. Give each column a name of its own.")
        self._offset = state.get("offset", self._offset)
        self._file.seek(self._offset)

    def __next__(self) -> Any:
        while (cells := self._record()) is not None:
            if not cells:
                continue
            where = f"{self.path.name}, row {self.number}"
            self.number += 1
            if len(cells) != len(self._header):
                what = f"the record has {len(cells)} cells, the header {len(self._header)}"
                return RowError("row unreadable", where, what)
            return {name: cell or None for name, cell in zip(self._header, cells, strict=True)}
        self._file.close()
        raise StopIteration

    def state(self) -> dict[str, Any]:
        """The row's number, and where its record begins."""
        return {"number": self.number, "offset": self._offset}

    @property
    def progress(self) -> float:
        """Bytes read among all."""
        return self._offset / max(self._size, 1)

    def _record(self) -> list[str] | None:
        try:
            return next(self._records, None)
        except (csv.Error, UnicodeDecodeError) as error:
            place = f"after row {self.number - 1}" if self.number else "in its first lines"
            raise DataError(
                f"{self.path}: not a readable table {place} ({error}). "
                "Expected UTF-8 with a header line, cells with commas or line breaks in double quotes."
            ) from error

    def _lines(self) -> Iterator[str]:
        while not self._file.closed and (line := self._file.readline()):
            encoding = "utf-8" if self._offset else "utf-8-sig"
            self._offset += len(line)
            yield line.decode(encoding)
