"""A recipe's data → `Rows`: files, folders, hub ids, LLaMA-Factory's registry, or a weighted mixture of sources.

Also any sequence of mappings made in Python, a `datasets.Dataset` among them.
"""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from datasets import ReadInstruction
from torch.utils.data import Subset

from sightline.config.data import DataConfig, SourceConfig
from sightline.data.rows import Part, Rows
from sightline.data.sources.files import SUFFIXES, read_path, splits_in
from sightline.data.sources.fit import refuse_unfit
from sightline.data.sources.hub import read_hub
from sightline.data.sources.registry import read_registry
from sightline.data.sources.tables import Renamed, Streamed, Undecoded
from sightline.data.stream.passes import Stream
from sightline.errors import DataError, RecipeError


def load_rows(config: DataConfig, split: str | None = None) -> Rows:
    """The rows that the recipe names, at most `config.limit` of them.

    split: overrides `config.split`; slices such as `train[:1%]` are taken here. `eval` stands for the rows of
    `config.eval_source`. Raises `DataError`.
    """
    if split == "eval":
        assert config.eval_source is not None, "without an eval_source rows are held out of the source"
        config = replace(config, source=config.eval_source, registry=None, mixture=[], limit=None)
        split = config.eval_split
    _one_kind_of_source(config)
    if config.registry:
        parts = read_registry(Path(config.registry).expanduser(), config.names, _media_dir(config))
        rows = mixed([_with_options(part, config) for part in parts], config.seed)
    elif config.mixture:
        rows = joined([_weighted(_read(source), source, config.seed) for source in config.mixture])
    else:
        rows = _read(config, split)
    rows = rows.with_system(config.system)
    return rows if config.limit is None else rows.select(range(min(config.limit, len(rows))))


def streams_of(config: DataConfig, split: str | None = None) -> list[Stream]:
    """What the recipe names, for reading front to back: no index, and no download of hub data sets.

    One stream a source: of a mixture, of a registry, of InternVL's meta file. Raises `DataError`.
    """
    _one_kind_of_source(config)
    if config.registry:
        parts = read_registry(Path(config.registry).expanduser(), config.names, _media_dir(config), streaming=True)
        parts = [replace(_with_options(part, config), system=config.system) for part in parts]
        return [Stream([part for part in parts if part.source == name]) for name in config.names]
    sources = config.mixture or [replace(config, split=split or config.split, limit=None)]
    streams = []
    for source in sources:
        if "[" in source.split:
            raise RecipeError(
                f"data.split: {source.split!r} is a slice, which needs an index of all rows; data.streaming reads from "
                "front to back. Give data.limit, or leave streaming out."
            )
        parts = [replace(part, system=config.system) for part in _parts(source, source.split, streaming=True)]
        apart = [[part] for part in parts] if Path(source.source).expanduser().is_file() else [parts]
        weight = source.weight if isinstance(source, SourceConfig) else 1.0
        streams += [Stream(some, weight=weight, limit=source.limit) for some in apart]
    return streams


def streams_in_python(rows: Any, config: DataConfig) -> list[Stream]:
    """Rows made in Python, a `datasets.IterableDataset` among them, as a stream."""
    if isinstance(rows, datasets.IterableDataset):
        part = Part(table=Streamed(rows), source="rows", media_dir=_media_dir(config), format=config.format)
        return [Stream([replace(part, system=config.system, ignore=tuple(config.ignore_columns))])]
    return [Stream([part]) for part in rows_given(rows, config).parts]


def split_names(config: DataConfig) -> list[str]:
    """The splits that the source has; `config.split` alone where it is a slice, a registry or a mixture."""
    path = Path(config.source).expanduser()
    if not config.source or "[" in config.split:
        return [config.split]
    if path.exists():
        return splits_in(path)
    if _looks_like_path(config.source):
        return [config.split]  # reading it will say that it is not there
    try:
        return list(map(str, datasets.get_dataset_split_names(config.source, config.subset)))
    except (OSError, ValueError, datasets.exceptions.DatasetsError):
        return [config.split]


def rows_of(
    rows: Any,
    *,
    media_dir: Path | None = None,
    format: str = "auto",
    source: str = "rows",
    ignore: Sequence[str] = (),
) -> Rows:
    """Rows made in Python: a list of mappings, a `datasets.Dataset`, a torch `Subset` of either, or `Rows`."""
    if isinstance(rows, Rows):
        return rows
    if isinstance(rows, Subset):
        whole = rows_of(rows.dataset, media_dir=media_dir, format=format, source=source, ignore=ignore)
        return whole.select(list(rows.indices))
    table = Undecoded(rows) if isinstance(rows, datasets.Dataset) else rows
    return Rows([Part(table=table, source=source, media_dir=media_dir, format=format, ignore=tuple(ignore))])


def rows_given(rows: Any, config: DataConfig) -> Rows:
    """Rows made in Python, with the recipe's format, media folder, system turn and ignored columns."""
    options: dict[str, Any] = {"media_dir": _media_dir(config), "format": config.format}
    return rows_of(rows, **options, ignore=config.ignore_columns).with_system(config.system)


def mixed(parts: list[Part], seed: int) -> Rows:
    """Rows of parts as their weights and limits say: a weight below 1 takes a random share, 2 takes every row twice."""
    return joined([_times(Rows([part]), part.weight, part.limit, seed) for part in parts])


def joined(rows: list[Rows]) -> Rows:
    """Several rows one after the other."""
    offsets = np.cumsum([0, *(len(r.parts) for r in rows)])
    part = np.concatenate([r.places[0] + offset for r, offset in zip(rows, offsets, strict=False)])
    number = np.concatenate([r.places[1] for r in rows])
    return Rows([p for r in rows for p in r.parts], part, number)


def _one_kind_of_source(config: DataConfig) -> None:
    if sum(map(bool, (config.source, config.registry, config.mixture))) > 1:
        raise RecipeError("data: give one of source, registry and mixture; several sources are one mixture.")


def _weighted(rows: Rows, source: SourceConfig, seed: int) -> Rows:
    limited = rows if source.limit is None else rows.select(range(min(source.limit, len(rows))))
    return _times(limited, source.weight, None, seed)


def _times(rows: Rows, weight: float, limit: int | None, seed: int) -> Rows:
    """Every row ⌊weight⌋ times and a random rest; then a random `limit` of them, in order."""
    random = np.random.default_rng(seed)
    whole, rest = int(weight), weight - int(weight)
    chosen = [np.arange(len(rows))] * whole
    if rest:
        chosen.append(np.sort(random.permutation(len(rows))[: round(rest * len(rows))]))
    indices = np.concatenate(chosen)
    if limit is not None and limit < len(indices):
        indices = indices[np.sort(random.permutation(len(indices))[:limit])]
    return rows if weight == 1 and limit is None else rows.select(indices)


def _read(config: DataConfig | SourceConfig, split: str | None = None) -> Rows:
    """The rows of one source and split expression."""
    spec = split or config.split
    name = spec.partition("[")[0].strip()
    parts = _parts(config, name)
    for part in parts:
        refuse_unfit(part, config.columns)
    return _slice(mixed(parts, seed=0), name, spec)


def _parts(config: DataConfig | SourceConfig, split: str, *, streaming: bool = False) -> list[Part]:
    """The source's parts, one a file, with the format, columns and media folder of the config."""
    path = Path(config.source).expanduser()
    if path.exists():
        parts = read_path(path, split)
    elif _looks_like_path(config.source):
        raise DataError(
            f"data.source: there is no file or folder {config.source!r}. Give a path that exists, or a hub id."
        )
    else:
        parts = [read_hub(config.source, split, subset=config.subset, streaming=streaming)]
    media_dir = _media_dir(config)
    return [
        replace(
            _with_options(part, config),
            table=Renamed(part.table, config.columns) if config.columns else part.table,
            format=config.format,
            media_dir=media_dir or part.media_dir,
            stamp=f"{part.stamp} {config.columns}" if part.stamp and config.columns else part.stamp,
        )
        for part in parts
    ]


def _with_options(part: Part, config: DataConfig | SourceConfig) -> Part:
    """The part with what holds for every kind of source."""
    return replace(part, allow_urls=config.allow_urls, ignore=tuple(config.ignore_columns))


def _media_dir(config: DataConfig | SourceConfig) -> Path | None:
    if config.media_dir is None:
        return None
    folder = Path(config.media_dir).expanduser()
    if not folder.is_dir():
        raise DataError(f"data.media_dir: there is no folder {str(folder)!r}. Give the folder that holds the images.")
    return folder


def _slice(rows: Rows, name: str, spec: str) -> Rows:
    """The rows that a split expression of `datasets` names: `train[:1%]`, `train[10:20]+train[30:]`."""
    if spec.strip() == name:
        return rows
    try:
        ranges = ReadInstruction.from_spec(spec).to_absolute({name: len(rows)})
    except (ValueError, AssertionError) as error:
        hint = "Write `train`, `train[:100]` or `train[:1%]`."
        raise DataError(f"data.split: {spec!r} is not a split ({error}). {hint}") from error
    ends = [(r.from_ or 0, len(rows) if r.to is None else r.to) for r in ranges]
    return rows.select(np.concatenate([np.arange(start, end) for start, end in ends]))


def _looks_like_path(name: str) -> bool:
    return name.startswith(("/", ".", "~")) or Path(name).suffix in SUFFIXES or name.count("/") > 1
