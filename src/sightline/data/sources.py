"""A name → `Rows`: a parquet, JSON, JSON Lines or arrow file, a folder of them, a `save_to_disk` folder, or a hub id.

Also any sequence of mappings made in Python, a `datasets.Dataset` among them.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ReadInstruction
from torch.utils.data import Subset

from sightline.config.data import DataConfig
from sightline.data.files import SUFFIXES, read_file, read_saved, split_of
from sightline.data.hub import read_hub
from sightline.data.rows import Part, Rows
from sightline.data.tables import Undecoded
from sightline.errors import DataError


def load_rows(config: DataConfig, split: str | None = None) -> Rows:
    """The rows of `config.source`, at most `config.limit` of them.

    split: overrides `config.split`; slices such as `train[:1%]` are taken here. `eval` stands for the rows of
    `config.eval_source`. Raises `DataError`.
    """
    if split == "eval":
        assert config.eval_source is not None, "without an eval_source rows are held out of the source"
        return load_rows(replace(config, source=config.eval_source, split=config.eval_split, limit=None))
    spec = split or config.split
    name = spec.partition("[")[0].strip()
    rows = _slice(Rows(_parts(config, name)), name, spec)
    return rows if config.limit is None else rows.select(range(min(config.limit, len(rows))))


def rows_of(rows: Any, *, media_dir: Path | None = None, format: str = "auto", source: str = "rows") -> Rows:
    """Rows made in Python: a list of mappings, a `datasets.Dataset`, a torch `Subset` of either, or `Rows`."""
    if isinstance(rows, Rows):
        return rows
    if isinstance(rows, Subset):
        whole = rows_of(rows.dataset, media_dir=media_dir, format=format, source=source)
        return whole.select(list(rows.indices))
    table = Undecoded(rows) if isinstance(rows, datasets.Dataset) else rows
    return Rows([Part(table=table, source=source, count=len(rows), media_dir=media_dir, format=format)])


def _parts(config: DataConfig, split: str) -> list[Part]:
    """The source's parts, one a file, with format and media folder of the config."""
    name = config.source
    path = Path(name).expanduser()
    if path.is_dir():
        parts = _read_folder(path, split)
    elif path.is_file():
        parts = [read_file(path)]
    elif _looks_like_path(name):
        raise DataError(f"data.source: there is no file or folder {name!r}. Give a path that exists, or a hub id.")
    else:
        parts = read_hub(name, split)
    media_dir = Path(config.media_dir).expanduser() if config.media_dir else None
    if media_dir is not None and not media_dir.is_dir():
        raise DataError(
            f"data.media_dir: there is no folder {str(media_dir)!r}. Give the folder that holds the pictures."
        )
    return [replace(part, format=config.format, media_dir=media_dir or part.media_dir) for part in parts]


def _read_folder(folder: Path, split: str) -> list[Part]:
    """A `save_to_disk` folder, or the data files in it that belong to `split`."""
    if (folder / "state.json").is_file() or (folder / "dataset_dict.json").is_file():
        return [read_saved(folder, split)]
    files = sorted(f for f in folder.rglob("*") if f.suffix in SUFFIXES and f.is_file() and not _is_hidden(f, folder))
    if not files:
        expected = ", ".join(SUFFIXES)
        raise DataError(
            f"data.source: the folder {str(folder)!r} holds no data file. Expected one of {expected} in it."
        )
    named = {file: split_of(file.relative_to(folder)) for file in files}
    if set(named.values()) == {None}:
        return [replace(read_file(f), media_dir=folder) for f in files]
    chosen = [f for f, name in named.items() if name == split]
    if not chosen:
        found = ", ".join(sorted({n for n in named.values() if n}))
        raise DataError(f"data.split: {str(folder)!r} has no split {split!r}. It has {found}.")
    return [replace(read_file(f), media_dir=folder) for f in chosen]


def _slice(rows: Rows, name: str, spec: str) -> Rows:
    """The rows that a split expression of `datasets` names: `train[:1%]`, `train[10:20]+train[30:]`."""
    if spec.strip() == name:
        return rows
    try:
        ranges = ReadInstruction.from_spec(spec).to_absolute({name: len(rows)})
    except (ValueError, AssertionError) as error:
        raise DataError(
            f"data.split: {spec!r} is not a split ({error}). Write `train`, `train[:100]` or `train[:1%]`."
        ) from error
    return rows.select(
        np.concatenate([np.arange(r.from_ or 0, r.to if r.to is not None else len(rows)) for r in ranges])
    )


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or Path(name).suffix in (*SUFFIXES, ".csv", ".tar") or name.count("/") > 1


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
