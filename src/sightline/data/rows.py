"""The rows of one or several sources as one sequence, each knowing its file and its number there."""

import itertools
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from sightline.data.defects import RowError
from sightline.data.formats import parse, recognise_source
from sightline.data.sources.reader import reader_of
from sightline.types import Example


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows of one file or data set.

    table: gives the row for an integer, and iterates over all rows in order, an unreadable row being its `RowError`;
    one without a length can only be iterated over. media_dir: folder that its image paths are relative to and cannot
    leave; None takes any path (rows made in Python). allow_urls, format, prompt_only: see `formats.parse`. weight,
    limit: see `sources.mixed`. stamp: changes when the file does; None where nothing tells. system: turn for rows that
    have none. ignore: columns that no format reads.
    """

    table: Any
    source: str
    media_dir: Path | None = None
    allow_urls: bool = False
    format: str = "auto"
    weight: float = 1.0
    limit: int | None = None
    stamp: str | None = None
    system: str | None = None
    ignore: tuple[str, ...] = ()
    prompt_only: bool = False

    @property
    def formats(self) -> str:
        """The recipe's format, or those of the first rows, for people to read."""
        return self.format if self.format != "auto" else recognise_source(reader_of(self.table, {}))


class Entry(NamedTuple):
    """A row as its source has it, with its place."""

    part: Part
    number: int
    row: Any

    @property
    def name(self) -> str:
        """`source:number`, the id of the row."""
        return f"{self.part.source}:{self.number}"

    @property
    def where(self) -> str:
        """The place, as errors say it."""
        return f"{self.part.source}, row {self.number}"

    def example(self) -> Example:
        """The row parsed by its format. Raises `RowError`."""
        part = self.part
        return parse(
            self.row,
            format=part.format,
            source=part.source,
            row_number=self.number,
            media_dir=part.media_dir,
            allow_urls=part.allow_urls,
            ignore=part.ignore,
            prompt_only=part.prompt_only,
        ).with_system(part.system)


class Rows(Sequence):
    """Rows of parts, in any order and selection. `rows[i]` is a mapping of columns; nothing is decoded."""

    def __init__(self, parts: Iterable[Part], part: np.ndarray | None = None, number: np.ndarray | None = None) -> None:
        self.parts = tuple(parts)
        if part is None or number is None:
            counts = [len(p.table) for p in self.parts]
            part = np.repeat(np.arange(len(self.parts)), counts)
            number = np.concatenate([np.arange(count) for count in counts] or [np.arange(0)])
        self._part, self._number = part, number

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Any:
        return self.entry(index).row

    def __iter__(self) -> Iterator[Any]:
        return (entry.row for entry in self.entries())

    def entry(self, index: int) -> Entry:
        """Row `index` and its place. Raises `RowError` for a row that cannot be read."""
        part, number = self.parts[self._part[index]], int(self._number[index])
        return Entry(part, number, part.table[number])

    def entries(self) -> Iterator[Entry]:
        """Every row in order, read from front to back where the selection allows it; an unreadable row is its error.

        Entries carry their part without its table, so that they can be sent to other processes.
        """
        bare = [replace(part, table=None) for part in self.parts]
        place = self._part.astype(np.int64) * 2**40 + self._number
        if not (np.diff(place) > 0).all():
            for index in range(len(self)):
                part, number = bare[self._part[index]], int(self._number[index])
                try:
                    yield Entry(part, number, self[index])
                except RowError as error:
                    yield Entry(part, number, error)
            return
        for which, part in enumerate(self.parts):
            wanted = self._number[self._part == which].tolist()
            rows = enumerate(itertools.islice(iter(part.table), wanted[-1] + 1 if wanted else 0))
            pending = iter(wanted)
            following = next(pending, None)
            for number, row in rows:
                if number == following:
                    yield Entry(bare[which], number, row)
                    following = next(pending, None)

    def example(self, index: int) -> Example:
        """The row parsed by its format. Raises `RowError`."""
        return self.entry(index).example()

    def name(self, index: int) -> str:
        """`source:number`, the id of the row; the row itself is not read."""
        return f"{self.parts[self._part[index]].source}:{self._number[index]}"

    def select(self, indices: Sequence[int] | np.ndarray | range) -> "Rows":
        """These rows only, in this order; they keep their numbers."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Rows(self.parts, self._part[chosen], self._number[chosen])

    def with_system(self, text: str | None) -> "Rows":
        """The same rows with this system turn where they have none of their own."""
        return self if text is None else Rows([replace(p, system=text) for p in self.parts], *self.places)

    def prompts_only(self) -> "Rows":
        """The same rows, of which only the prompts are wanted."""
        return Rows([replace(p, prompt_only=True) for p in self.parts], *self.places)

    @property
    def places(self) -> tuple[np.ndarray, np.ndarray]:
        """For each row the index of its part, and its number there."""
        return self._part, self._number

    @property
    def fingerprint(self) -> str | None:
        """Equal for equal rows of unchanged files; None for rows made in Python."""
        if any(part.stamp is None for part in self.parts):
            return None
        digest = sha256()
        for part in self.parts:
            about = (part.stamp, part.source, part.format, part.media_dir, part.allow_urls, part.system, part.ignore)
            digest.update(repr(about).encode())
        for places in self.places:
            digest.update(places.tobytes())
        return digest.hexdigest()

    @property
    def formats(self) -> dict[str, str]:
        """Source → the format, or formats, of its rows."""
        return {part.source: part.formats for part in self.parts}
