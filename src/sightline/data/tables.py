"""Tables of rows that leave pictures as they are stored. Each gives the row for an integer and iterates in order."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow.parquet as pq

BATCH = 32
"""Rows that are read at once when a table is iterated over: a few megabytes of pictures."""


class Undecoded:
    """A `datasets.Dataset` whose pictures stay `{bytes, path}`; everything else as Python values.

    A data set with a transform of the user's own is read through it.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._transformed = dataset.format["type"] == "custom"
        self._dataset = dataset if self._transformed else dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        row = self._dataset[int(index)]
        return row if self._transformed else row.to_pylist()[0]

    def __iter__(self) -> Iterator[Any]:
        if self._transformed:
            yield from self._dataset
        else:
            for batch in self._dataset.iter(BATCH):
                yield from batch.to_pylist()


class Parquet:
    """A parquet file: iterated over as it is; for access by row copied once into the library's memory-mapped cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._num_rows = pq.read_metadata(path).num_rows
        self._indexed: Undecoded | None = None

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._indexed is None:
            self._indexed = Undecoded(datasets.Dataset.from_parquet(str(self.path)))
        return self._indexed[index]

    def __iter__(self) -> Iterator[dict[str, Any]]:
        with pq.ParquetFile(self.path, memory_map=True) as file:
            for batch in file.iter_batches(BATCH):
                yield from batch.to_pylist()


class Streamed:
    """A hub data set that is only iterated over; it has no length."""

    def __init__(self, dataset: datasets.IterableDataset) -> None:
        self._dataset = dataset.with_format("arrow")

    def __iter__(self) -> Iterator[dict[str, Any]]:
        for batch in self._dataset.iter(BATCH):
            yield from batch.to_pylist()


class Renamed:
    """A table whose columns go by other names. columns: the name that is wanted → the table's own."""

    def __init__(self, table: Any, columns: Mapping[str, str]) -> None:
        self.table, self.columns = table, dict(columns)

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, index: int) -> Any:
        return self._renamed(self.table[index])

    def __iter__(self) -> Iterator[Any]:
        return (self._renamed(row) for row in self.table)

    def _renamed(self, row: Any) -> Any:
        if not isinstance(row, Mapping):
            return row
        taken = set(self.columns.values())
        kept = {k: v for k, v in row.items() if k not in taken and k not in self.columns}
        return {**kept, **{wanted: row.get(own) for wanted, own in self.columns.items()}}
