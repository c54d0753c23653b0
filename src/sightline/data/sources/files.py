"""Data files, folders of them and `save_to_disk` folders → parts. Nothing is unpickled."""

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa

from sightline.config.data import DATA_SUFFIXES as SUFFIXES
from sightline.data.rows import Part
from sightline.data.sources.delimited import Delimited
from sightline.data.sources.internvl import is_meta, read_meta
from sightline.data.sources.jsonl import JsonLines, read_json
from sightline.data.sources.tables import Parquet, Undecoded
from sightline.data.sources.tar import Tar
from sightline.errors import DataError, shown

PACKED = (".gz", ".zst", ".bz2", ".xz", ".zip", ".lz4")
OTHER_TABLES = (".ndjson", ".jl", ".jsonlines", ".json5", ".feather", ".orc", ".avro", ".xlsx", ".xls", ".ods")
"""Files of rows that are not read."""
PICKLES = (".pkl", ".pickle", ".pt", ".pth", ".joblib", ".npy")
SPLIT_WORDS = {
    "train": "train", "training": "train",
    "validation": "validation", "valid": "validation", "val": "validation", "dev": "validation",
    "test": "test", "testing": "test", "eval": "test",
}  # fmt: skip
"""The words by which file and folder names say a split."""


def split_among(split: str, names: Iterable[str]) -> str | None:
    """The one of these that a split's name means: itself, or another word for it (`val` for `validation`)."""
    known = list(names)
    if split in known:
        return split
    meant = SPLIT_WORDS.get(split.lower())
    alike = [name for name in known if meant is not None and SPLIT_WORDS.get(name.lower()) == meant]
    return alike[0] if len(alike) == 1 else None


def read_path(path: Path, split: str) -> list[Part]:
    """The parts of a file or folder that belong to `split`; a single file belongs to any. Raises `DataError`."""
    return _read_folder(path, split) if path.is_dir() else read_file(path)


def read_file(path: Path) -> list[Part]:
    """One data file; images are looked for next to it. An InternVL meta file is many. Raises `DataError`."""
    if not path.is_file():
        raise DataError(f"{path} is no file with a beginning and an end (a pipe or a device). Give a file or a folder.")
    if path.suffix.lower() == ".json":
        content = read_json(path)
        return read_meta(path, content) if is_meta(content) else [_part(path, _row_list(path, content))]
    return [_part(path, _read_table(path))]


def _part(path: Path, table: Any) -> Part:
    status = path.stat()
    stamp = f"{path.resolve()} {status.st_size} {status.st_mtime_ns}"
    return Part(table=table, source=path.name, media_dir=path.parent, stamp=stamp)


def _read_table(path: Path) -> Any:
    try:
        match path.suffix.lower():
            case ".parquet":
                return Parquet(path)
            case ".jsonl":
                return JsonLines(path)
            case ".csv" | ".tsv":
                return Delimited(path)
            case ".arrow":
                return Undecoded(datasets.Dataset.from_file(str(path)))
            case ".tar":
                return Tar(path)
    except (OSError, ValueError, pa.ArrowException) as error:
        raise DataError(
            f"{path}: not a readable {path.suffix[1:]} file ({error}). Write or download it again."
        ) from error
    if path.suffix.lower() in PICKLES:
        raise DataError(f"{path}: pickles are not read: loading one runs the code in it. Save the rows as parquet.")
    kind = "".join(path.suffixes[-2:]) if path.suffix.lower() in PACKED else path.suffix or "(none)"
    raise DataError(f"{path}: files of kind {kind} are not read. {_unpack(path)}Expected one of {', '.join(SUFFIXES)}.")


def _row_list(path: Path, content: Any) -> Any:
    """The rows of a JSON file: a list, or the one list that an object holds."""
    if isinstance(content, dict):
        lists = [v for v in content.values() if isinstance(v, list)]
        content = lists[0] if len(lists) == 1 else content
    if isinstance(content, dict | str | int | float | None):
        raise DataError(
            f"{path}: expected a list of rows, got one {type(content).__name__}. Write a JSON list of rows."
        )
    return content


def _read_folder(folder: Path, split: str) -> list[Part]:
    """A `save_to_disk` folder, or the data files in it that belong to `split`; all of them where none names a split."""
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return [_read_saved(folder, split)]
    files = _data_files(folder)
    if not files:
        expected = ", ".join(SUFFIXES)
        raise DataError(
            f"data.source: the folder {str(folder)!r} holds no data file. Expected one of {expected} in it."
        )
    left_out = [str(file.relative_to(folder)) for file in _rows_not_read(folder)]
    if left_out:
        names = ", ".join(left_out[:5]) + (" …" if len(left_out) > 5 else "")
        raise DataError(
            f"data.source: {str(folder)!r} holds {len(left_out)} file(s) of rows that are not read: {names}. "
            f"Unpack or convert them to one of {', '.join(SUFFIXES)}, move them elsewhere, or name the files that are "
            "meant in data.mixture."
        )
    named = {file: split_of(file.relative_to(folder)) for file in files}
    wanted = split_among(split, {name for name in named.values() if name is not None})
    all_of_them = set(named.values()) == {None}
    chosen = files if all_of_them else [file for file, name in named.items() if name is not None and name == wanted]
    if not chosen:
        found = ", ".join(sorted({n for n in named.values() if n}))
        raise DataError(f"data.split: {str(folder)!r} has no split {split!r}. It has {found}.")
    return [replace(part, media_dir=folder) for file in chosen for part in read_file(file)]


def _read_saved(folder: Path, split: str) -> Part:
    """A folder written by `save_to_disk`: a data set, or a dictionary of splits."""
    if (folder / "dataset_dict.json").is_file():
        _saved_splits(folder / "dataset_dict.json")
    try:
        saved = datasets.load_from_disk(str(folder))
    except Exception as error:  # whatever `datasets` raises for values of another kind in its files
        said = shown(error, 200) or type(error).__name__
        raise DataError(f"{folder}: the data set cannot be read ({said}). Save it again with save_to_disk.") from error
    if isinstance(saved, datasets.DatasetDict):
        wanted = split_among(split, map(str, saved))
        if wanted is None:
            raise DataError(f"data.split: {str(folder)!r} has no split {split!r}. It has {', '.join(map(str, saved))}.")
        saved = saved[wanted]
    return Part(table=Undecoded(saved), source=folder.name, media_dir=folder, stamp=saved._fingerprint)


def splits_in(path: Path) -> list[str]:
    """The splits of a file or folder; one unnamed split is `train`."""
    if (path / "dataset_dict.json").is_file():
        return _saved_splits(path / "dataset_dict.json")
    if not path.is_dir() or (path / "state.json").is_file():
        return ["train"]
    names = {split_of(file.relative_to(path)) for file in _data_files(path)}
    order = list(dict.fromkeys(SPLIT_WORDS.values()))
    return sorted((n for n in names if n), key=order.index) or ["train"]


def _saved_splits(path: Path) -> list[str]:
    """Names of the splits of a folder that `save_to_disk` wrote."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        said = shown(error, 200)
        raise DataError(f"{path}: not JSON ({said}). Save the data set again with save_to_disk.") from error
    names = found.get("splits") if isinstance(found, dict) else None
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise DataError(f"{path}: expected a list of names under `splits`. Save the data set again with save_to_disk.")
    return names


def split_of(path: Path) -> str | None:
    """The split that a file's name or folders say (`data/train-00000-of-00002.parquet`), nearest name first."""
    for part in (path.stem, *(p.name for p in path.parents)):
        for word in re.split(r"[^a-z]+", part.lower()):
            if word in SPLIT_WORDS:
                return SPLIT_WORDS[word]
    return None


def _data_files(folder: Path) -> list[Path]:
    files = (f for f in folder.rglob("*") if f.suffix.lower() in SUFFIXES)
    return sorted(f for f in files if f.is_file() and not _is_hidden(f, folder))


def _rows_not_read(folder: Path) -> list[Path]:
    """Files of rows that are packed (`b.jsonl.gz`) or of other kinds; archives of images are none."""
    found = []
    for file in folder.rglob("*"):
        suffixes = [suffix.lower() for suffix in file.suffixes[-2:]]
        is_packed = len(suffixes) == 2 and suffixes[1] in PACKED and suffixes[0] in SUFFIXES and suffixes[0] != ".tar"
        is_rows = is_packed or (bool(suffixes) and suffixes[-1] in OTHER_TABLES)
        if is_rows and file.is_file() and not _is_hidden(file, folder):
            found.append(file)
    return sorted(found)


def _unpack(path: Path) -> str:
    return "Unpack it first. " if path.suffix.lower() in PACKED else ""


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
