"""Tables of rows that leave pictures as they are stored."""

from typing import Any

import datasets


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
