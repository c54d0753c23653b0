"""Data files and `save_to_disk` folders → parts. Random access without reading pictures ahead; nothing is unpickled."""

import re
from pathlib import Path

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from sightline.data.jsonl import JsonLines, read_json
from sightline.data.rows import Part
from sightline.data.tables import Undecoded
from sightline.errors import DataError

SUFFIXES = (".parquet", ".jsonl", ".json", ".arrow")
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy")
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""The words by which file and folder names say a split."""


def read_file(path: Path) -> Part:
    """One data file; pictures are looked for next to it. Raises `DataError`."""
    match path.suffix:
        case ".parquet":
            table = _read_parquet(path)
        case ".jsonl":
            table = JsonLines(path)
        case ".json":
            table = read_json(path)
        case ".arrow":
            table = _read_arrow(path)
        case suffix if suffix in PICKLES:
            raise DataError(
                f"{path}: pickles are not read, because loading one runs the code in it. Save the rows as parquet."
            )
        case suffix:
            raise DataError(f"{path}: files of kind {suffix or '(none)'} are not read. Expected {', '.join(SUFFIXES)}.")
    return Part(table=table, source=path.name, count=len(table), media_dir=path.parent)


def read_saved(folder: Path, split: str) -> Part:
    """A folder written by `save_to_disk`: a data set, or a dictionary of splits. Raises `DataError`."""
    try:
        saved = datasets.load_from_disk(str(folder))
    except (OSError, ValueError, KeyError, pa.ArrowException) as error:
        raise DataError(f"{folder}: the data set cannot be read ({error}). Save it again with save_to_disk.") from error
    if isinstance(saved, datasets.DatasetDict):
        if split not in saved:
            raise DataError(f"data.split: {str(folder)!r} has no split {split!r}. It has {', '.join(map(str, saved))}.")
        saved = saved[split]
    return Part(table=Undecoded(saved), source=folder.name, count=len(saved), media_dir=folder)


def split_of(path: Path) -> str | None:
    """The split that a file's name or folders say (`data/train-00000-of-00002.parquet`), nearest name first."""
    for part in (path.stem, *(p.name for p in path.parents)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _read_parquet(path: Path) -> Undecoded:
    """Through the library's memory-mapped cache: parquet itself has no access by row."""
    try:
        pq.read_metadata(path)
        rows = datasets.Dataset.from_parquet(str(path))
    except (OSError, pa.ArrowException, datasets.exceptions.DatasetGenerationError) as error:
        raise DataError(f"{path}: not a readable parquet file ({error}). Write or download it again.") from error
    return Undecoded(rows)


def _read_arrow(path: Path) -> Undecoded:
    try:
        return Undecoded(datasets.Dataset.from_file(str(path)))
    except (OSError, pa.ArrowException) as error:
        raise DataError(f"{path}: not a readable arrow file ({error}). Write or download it again.") from error
