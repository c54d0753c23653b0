"""A data set on the Hugging Face hub, or in its local cache → parts."""

import re
from pathlib import Path
from typing import Any

import datasets
from huggingface_hub.constants import HF_HOME

from sightline.data.rows import Part
from sightline.data.sources.files import split_among
from sightline.data.sources.tables import Streamed, Undecoded
from sightline.errors import DataError

HUB_ID = re.compile(r"[\w.-]+(/[\w.-]+)?")


def read_hub(
    name: str, split: str, *, subset: str | None = None, folder: str | None = None, streaming: bool = False
) -> Part:
    """`load_dataset(name, subset, split=split)`, images undecoded; their paths cannot leave the hub's cache.

    folder: of the repository, to read only that. Raises `DataError` when there is no such data set, subset or split,
    or no network.
    """
    if not HUB_ID.fullmatch(name):
        raise DataError(f"data.source: {name!r} is neither a file or folder that exists nor a hub id (`owner/name`).")
    try:
        rows = _loaded(name, split, subset, folder, streaming)
    except (OSError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise DataError(
            f"data.source: {name!r} is no file or folder here, and the hub gave no split {split!r} of it: "
            f"{str(error).splitlines()[0]} Check the spelling and the network."
        ) from error
    if isinstance(rows, datasets.IterableDataset):
        return Part(table=Streamed(rows), source=name, media_dir=Path(HF_HOME))
    return Part(table=Undecoded(rows), source=name, media_dir=Path(HF_HOME), stamp=rows._fingerprint)


def _loaded(name: str, split: str, subset: str | None, folder: str | None, streaming: bool) -> Any:
    """The data set's split, or the one that another word names (`val` for `validation`)."""
    try:
        return datasets.load_dataset(name, subset, data_dir=folder, split=split, streaming=streaming)
    except ValueError as error:
        # asked only now: the names are another request
        try:
            names = list(map(str, datasets.get_dataset_split_names(name, subset, data_dir=folder)))
        except (OSError, ValueError, datasets.exceptions.DatasetsError):
            raise error from None
        found = split_among(split, names)
        if found in (None, split):
            raise
        return datasets.load_dataset(name, subset, data_dir=folder, split=found, streaming=streaming)
