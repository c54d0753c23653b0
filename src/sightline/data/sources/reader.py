"""Tables read from front to back, from any place on: no index, no copy, memory of a few rows."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any

State = Mapping[str, Any]
"""Where a reader goes on, as JSON keeps it; empty for the beginning."""


class Reader(ABC):
    """Gives one row after the other; an unreadable row is its `RowError`.

    number: of the row that comes next, in its table.
    """

    number: int = 0

    def __iter__(self) -> Iterator[Any]:
        return self

    @abstractmethod
    def __next__(self) -> Any:
        """The next row. Raises `StopIteration`, and `DataError` where the file is damaged."""

    @abstractmethod
    def state(self) -> dict[str, Any]:
        """Where the next row begins."""

    @property
    @abstractmethod
    def progress(self) -> float:
        """How much of the table was read, 0 to 1."""


class Table(ABC):
    """Rows in a file, iterated over without an index."""

    @abstractmethod
    def reader(self, state: State) -> Reader:
        """A reader from the beginning, or from where another one said."""

    def __iter__(self) -> Iterator[Any]:
        return self.reader({})


class SequenceReader(Reader):
    """Reads what has a length and an index anyway: lists, arrow files."""

    def __init__(self, rows: Any, state: State) -> None:
        self.rows, self.number = rows, state.get("number", 0)

    def __next__(self) -> Any:
        if self.number >= len(self.rows):
            raise StopIteration
        self.number += 1
        return self.rows[self.number - 1]

    def state(self) -> dict[str, Any]:
        """The row's number."""
        return {"number": self.number}

    @property
    def progress(self) -> float:
        """Rows read among all."""
        return self.number / max(len(self.rows), 1)


def reader_of(table: Any, state: State) -> Reader:
    """A reader of any table that a `rows.Part` has."""
    return table.reader(state) if isinstance(table, Table) else SequenceReader(table, state)


class Seen(Table, ABC):
    """Another table's rows, each changed by `seen`."""

    table: Any

    @abstractmethod
    def seen(self, row: Any) -> Any:
        """The row as it is given out; an error of the row stays what it is. Raises `RowError`."""

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Any:
        return self.seen(self.table[index])

    def reader(self, state: State) -> Reader:
        """Of the table behind, its rows changed."""
        return SeenReader(self, reader_of(self.table, state))


class SeenReader(Reader):
    """Reads rows through `Seen`."""

    def __init__(self, table: Seen, reader: Reader) -> None:
        self.table, self.inner = table, reader

    @property
    def number(self) -> int:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Of the row that comes next."""
        return self.inner.number

    def __next__(self) -> Any:
        return self.table.seen(next(self.inner))

    def state(self) -> dict[str, Any]:
        """That of the table behind."""
        return self.inner.state()

    @property
    def progress(self) -> float:
        """That of the table behind."""
        return self.inner.progress
