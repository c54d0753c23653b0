"""The rows of one or several sources as one sequence, each knowing its file and its number there."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from sightline.data.defects import RowError
from sightline.data.formats import parse
from sightline.types import Example


@dataclass(frozen=True, kw_only=True)
class Part:
    """Rows `start … start + count` of a table, which are one file or data set.

    table: anything that gives a mapping for an integer. media_dir: folder that its picture paths are relative to and
    cannot leave; None takes any path (rows made in Python). format: see `formats.parse`.
    """

    table: Any
    source: str
    count: int
    start: int = 0
    media_dir: Path | None = None
    format: str = "auto"


class Rows(Sequence):
    """Rows of parts, in any order and selection. `rows[i]` is a mapping of columns; nothing is decoded."""

    def __init__(self, parts: Iterable[Part], part: np.ndarray | None = None, number: np.ndarray | None = None) -> None:
        self.parts = tuple(parts)
        if part is None or number is None:
            part = np.repeat(np.arange(len(self.parts)), [p.count for p in self.parts])
            number = np.concatenate([np.arange(p.count) for p in self.parts] or [np.arange(0)])
        self._part, self._number = part, number

    def __len__(self) -> int:
        return len(self._part)

    def __getitem__(self, index: int) -> Any:
        part, number = self._locate(index)
        return part.table[part.start + number]

    def select(self, indices: Sequence[int] | np.ndarray | range) -> "Rows":
        """These rows only, in this order; they keep their numbers."""
        chosen = np.asarray(indices, dtype=np.int64)
        return Rows(self.parts, self._part[chosen], self._number[chosen])

    def name(self, index: int) -> str:
        """`source:number`, the id of the row."""
        part, number = self._locate(index)
        return f"{part.source}:{number}"

    def example(self, index: int) -> Example:
        """The row parsed by its format. Raises `RowError`."""
        part, number = self._locate(index)
        return parse(self[index], format=part.format, source=part.source, row_number=number, media_dir=part.media_dir)

    def picture_keys(self, index: int) -> tuple[str, ...]:
        """What tells the row's pictures from others; empty without a picture, or where the row cannot be parsed."""
        try:
            return tuple(picture.key for picture in self.example(index).images)
        except RowError:
            return ()

    def _locate(self, index: int) -> tuple[Part, int]:
        return self.parts[self._part[index]], int(self._number[index])
