"""Passes over several streams of rows: every row as often as it is to be seen, all streams ending together.

A pass reads files one after the other within a stream, in another order each pass, and takes the next row from the
stream of which the smallest share is read. So no stream is through long before another, whatever their sizes, and no
size has to be known beforehand. Where a pass stands is a few numbers for each stream.
"""

import random
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from sightline.data.rows import Entry, Part
from sightline.data.sources.reader import Reader, reader_of
from sightline.errors import DataError

RANDOM_BITS = 2**32


@dataclass(frozen=True)
class Stream:
    """Parts that are read one after the other.

    weight: how often their rows are seen in a pass; 2.5 is two times and half of the rows once more. limit: rows of
    them that are read, the first ones.
    """

    parts: list[Part]
    weight: float = 1.0
    limit: int | None = None

    @property
    def keeps_order(self) -> bool:
        """Whether parts keep their order, so that a limit means the same rows in every pass."""
        return self.limit is not None

    def visits(self, order_seed: str | None) -> list[tuple[int, float]]:
        """(part, share of its rows) for every time that a part is read in a pass. order_seed: None keeps the order."""
        visits = []
        for which, part in enumerate(self.parts):
            times = self.weight * part.weight
            visits += [(which, min(times - time, 1.0)) for time in range(-int(-times // 1))]
        if order_seed is not None and not self.keeps_order:
            random.Random(order_seed).shuffle(visits)
        return visits


class _Cursor:
    """Where one stream stands in a pass."""

    def __init__(self, stream: Stream, order_seed: str | None, state: Mapping[str, Any]) -> None:
        self.stream = stream
        self.visits = stream.visits(order_seed)
        self.visit = state.get("visit", 0)
        self.taken = state.get("taken", 0)
        self._start = state.get("reader", {})
        self._reader: Reader | None = None
        self._part: Part | None = None
        if self._start:
            self._open()  # for its progress, which says whose turn it is

    def next(self) -> Entry | None:
        """The next row; None at the end of the pass."""
        while self.visit < len(self.visits) and (self.stream.limit is None or self.taken < self.stream.limit):
            which, share = self.visits[self.visit]
            part = self.stream.parts[which]
            if self._reader is None:
                self._open()
            assert self._reader is not None and self._part is not None
            number = self._reader.number
            row = None if part.limit is not None and number >= part.limit else next(self._reader, None)
            if row is None:
                self.visit, self._reader, self._start = self.visit + 1, None, {}
            elif share == 1 or random.Random(f"{part.source} {number}").randrange(RANDOM_BITS) < share * RANDOM_BITS:
                self.taken += 1
                return Entry(self._part, number, row)
        self.visit, self._reader, self._start = len(self.visits), None, {}
        return None

    def _open(self) -> None:
        part = self.stream.parts[self.visits[self.visit][0]]
        self._reader = reader_of(part.table, self._start)
        self._part = replace(part, table=None)

    @property
    def progress(self) -> float:
        """The share of the pass that is read, 0 to 1."""
        here = 0.0 if self._reader is None else self._reader.progress
        return (self.visit + here) / max(len(self.visits), 1)

    @property
    def is_done(self) -> bool:
        """Whether the pass is over."""
        return self.visit >= len(self.visits)

    def state(self) -> dict[str, Any]:
        """What `_Cursor` goes on from."""
        reader = self._start if self._reader is None else self._reader.state()
        return {"visit": self.visit, "taken": self.taken, "reader": reader}


class Passes:
    """The rows of streams, pass after pass, without end.

    seed: of the order of files, another one each pass; None keeps their order. limit: rows of a pass.
    """

    def __init__(
        self,
        streams: list[Stream],
        *,
        seed: int | None,
        limit: int | None = None,
        state: Mapping[str, Any] | None = None,
    ) -> None:
        self.streams, self.seed, self.limit = streams, seed, limit
        state = state or {}
        self.number = state.get("pass", 0)
        self.taken = state.get("taken", 0)
        self._cursors = self._begin(state.get("streams", [{} for _ in streams]))

    def next(self) -> Entry | None:
        """The next row; None where a pass ends. Raises `DataError` when a pass has no row."""
        if self.limit is None or self.taken < self.limit:
            while reading := [cursor for cursor in self._cursors if not cursor.is_done]:
                entry = min(reading, key=lambda cursor: cursor.progress).next()
                if entry is not None:
                    self.taken += 1
                    return entry
        if self.taken == 0:
            raise DataError(f"{', '.join(p.source for s in self.streams for p in s.parts) or 'The data'} has no rows.")
        self.number, self.taken = self.number + 1, 0
        self._cursors = self._begin([{} for _ in self.streams])
        return None

    def state(self) -> dict[str, Any]:
        """Where the next row is, as JSON keeps it."""
        return {"pass": self.number, "taken": self.taken, "streams": [cursor.state() for cursor in self._cursors]}

    def _begin(self, states: list[Mapping[str, Any]]) -> list[_Cursor]:
        keeps_order = self.seed is None or self.limit is not None
        return [
            _Cursor(stream, None if keeps_order else f"{self.seed} {self.number} {which}", state)
            for which, (stream, state) in enumerate(zip(self.streams, states, strict=True))
        ]
