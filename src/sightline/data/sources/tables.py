"""Tables of rows that leave images as they are stored. Each gives the row for an integer and iterates in order."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from sightline.data.sources.reader import Reader, Seen, State, Table
from sightline.errors import DataError, shown

BATCH = 32
"""Rows that are read at once when a table is iterated over: a few megabytes of images."""
UNKNOWN_LENGTH = 10_000
"""Rows that a hub data set is taken to have when it does not say."""


class Undecoded:
    """A `datasets.Dataset` whose images stay `{bytes, path}`; everything else as Python values.

    A data set with a transform of the user's own is read through it.
    """

    def __init__(self, dataset: datasets.Dataset) -> None:
        self._transformed = dataset.format["type"] == "custom"
        self._dataset = dataset if self._transformed else dataset.with_format("arrow")

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._transformed:
            return self._dataset[int(index)]
        try:
            return self._dataset[int(index)].to_pylist()[0]
        except (ValueError, pa.ArrowException) as error:
            raise self._damaged(index, error) from error

    def __iter__(self) -> Iterator[Any]:
        if self._transformed:
            yield from self._dataset
            return
        number = 0
        try:
            for batch in self._dataset.iter(BATCH):
                for row in batch.to_pylist():
                    yield row
                    number += 1
        except (ValueError, pa.ArrowException) as error:
            raise self._damaged(number, error) from error

    def _damaged(self, number: int, error: Exception) -> DataError:
        """Bytes of the file are no text, or no table."""
        files = [file["filename"] for file in self._dataset.cache_files]
        where = files[0] if files else "rows"
        return DataError(
            f"{where}: row {number} cannot be read ({shown(error, 200)}). Write or download the file again."
        )


class Parquet(Table):
    """A parquet file: iterated over as it is; for access by row copied once into the library's memory-mapped cache."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._num_rows = pq.read_metadata(path).num_rows
        self._indexed: Undecoded | None = None

    def __len__(self) -> int:
        return self._num_rows

    def __getitem__(self, index: int) -> dict[str, Any]:
        if self._indexed is None:
            try:
                self._indexed = Undecoded(datasets.Dataset.from_parquet(str(self.path)))
            except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
                raise DataError(
                    f"{self.path}: not all of its rows can be read ({error}). Write or download the file again."
                ) from error
        return self._indexed[index]

    def reader(self, state: State) -> "ParquetReader":
        """From a row on; row groups before it are not touched."""
        return ParquetReader(self.path, state)


class ParquetReader(Reader):
    """Reads a parquet file batch by batch."""

    def __init__(self, path: Path, state: State) -> None:
        self.path, self.number = path, state.get("number", 0)
        self._rows = self._read(self.number)
        self._num_rows = 0

    def __next__(self) -> dict[str, Any]:
        try:
            row = next(self._rows)
        except (OSError, ValueError, pa.ArrowException) as error:
            raise DataError(
                f"{self.path}: row {self.number} and those after it cannot be read ({error}). Write or download the "
                "file again."
            ) from error
        self.number += 1
        return row

    def state(self) -> dict[str, Any]:
        """The row's number."""
        return {"number": self.number}

    @property
    def progress(self) -> float:
        """Rows read among all."""
        return self.number / max(self._num_rows, 1)

    def _read(self, start: int) -> Iterator[dict[str, Any]]:
        # neither mapped nor read ahead: either would count as memory, up to the size of the file
        with pq.ParquetFile(self.path, pre_buffer=False, buffer_size=2**20) as file:
            self._num_rows = file.metadata.num_rows
            group = 0
            while group < file.num_row_groups and start >= file.metadata.row_group(group).num_rows:
                start -= file.metadata.row_group(group).num_rows
                group += 1
            for batch in file.iter_batches(BATCH, row_groups=range(group, file.num_row_groups)):
                yield from batch.slice(min(start, len(batch))).to_pylist()
                start = max(start - len(batch), 0)


class Streamed(Table):
    """A hub data set that is only iterated over; it has no length."""

    def __init__(self, dataset: datasets.IterableDataset) -> None:
        self.dataset = dataset

    def reader(self, state: State) -> "StreamedReader":
        """From where another reader was."""
        return StreamedReader(self.dataset, state)


class StreamedReader(Reader):
    """Reads a streamed data set, images undecoded; the library keeps where it is."""

    def __init__(self, dataset: datasets.IterableDataset, state: State) -> None:
        self.number = state.get("number", 0)
        self._dataset = dataset.decode(False)  # a new object, at the beginning
        if "dataset" in state:
            self._dataset.load_state_dict(state["dataset"])
        splits = dataset.info.splits or {}
        known = splits.get(str(dataset.split))
        self._num_rows = known.num_examples if known is not None and known.num_examples else UNKNOWN_LENGTH
        self._rows = iter(self._dataset)

    def __next__(self) -> dict[str, Any]:
        try:
            row = next(self._rows)
        except (OSError, ValueError, pa.ArrowException, datasets.exceptions.DatasetsError) as error:
            raise DataError(
                f"data.source: row {self.number} and those after it cannot be read from the hub ({error}). Check the "
                "network, and go on with --resume."
            ) from error
        self.number += 1
        return row

    def state(self) -> dict[str, Any]:
        """The row's number, and the library's own state."""
        return {"number": self.number, "dataset": self._dataset.state_dict()}

    @property
    def progress(self) -> float:
        """Rows read among as many as the data set says, or may, have."""
        return min(self.number / self._num_rows, 1.0)


class Renamed(Seen):
    """A table whose columns go by other names. columns: the name that is wanted → the table's own."""

    def __init__(self, table: Any, columns: Mapping[str, str]) -> None:
        self.table, self.columns = table, dict(columns)

    def seen(self, row: Any) -> Any:
        """The row with the wanted names."""
        if not isinstance(row, Mapping):
            return row
        taken = set(self.columns.values())
        kept = {k: v for k, v in row.items() if k not in taken and k not in self.columns}
        return {**kept, **{wanted: row.get(own) for wanted, own in self.columns.items()}}
