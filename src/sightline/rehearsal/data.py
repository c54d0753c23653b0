"""A recipe's data at the size of a rehearsal: what lies here is read as it is, its first rows; the rest is made up."""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.config.data import DataConfig, SourceConfig
from sightline.data.sources.registry import ALPACA, SHAREGPT
from sightline.errors import DataError
from sightline.rehearsal.rows import Kind, write_rows

ROWS = 24
ROOM = 1024
"""Tokens of `data.max_length` from which made-up rows are as long as real ones."""
HELD_OUT = 4
IMAGES = 40
"""Of the `scenes` source, which are drawn and need no swap."""


def small_data(data: DataConfig, folder: Path, kind: Kind, changes: list[str]) -> DataConfig:
    """The data of the rehearsal; rows that are not here are written into `folder`."""
    small = replace(
        data,
        limit=min(data.limit or ROWS, ROWS),
        val_size=_held_out(data.val_size),
        cache_dir=str(folder / "cache") if data.cache_tokens else None,
        dataset_num_proc=min(data.dataset_num_proc, 2),
    )
    if small.val_size != data.val_size:
        changes.append(f"held-out rows: {small.val_size:g} for {data.val_size:g}")
    if data.source == "scenes":
        images = min(int(data.scenes.get("images", IMAGES)), IMAGES)
        changes.append(f"data: {images} drawn images")
        return replace(small, limit=data.limit, scenes={**data.scenes, "images": images})
    if data.source and not _is_here(data.source):
        path = _made_up(data, folder / "train.parquet", kind, changes, is_long=_has_room(data))
        small = replace(small, source=str(path), subset=None, split="train", media_dir=None)
    elif data.source:
        changes.append(f"data: the first {small.limit} rows of {data.source}")
    if data.registry:
        small = replace(small, registry=str(_small_registry(data, folder, kind, changes)))
    if data.mixture:
        small = replace(
            small,
            mixture=[
                _small_source(source, number, folder, kind, changes, is_long=_has_room(data))
                for number, source in enumerate(data.mixture)
            ],
        )
    return _small_eval(small, data, folder, kind, changes)


def _held_out(val_size: float) -> float:
    """So many rows that a few are held out where the recipe holds any out."""
    if val_size == 0:
        return 0.0
    return min(val_size, float(HELD_OUT)) if val_size >= 1 else max(val_size, HELD_OUT / ROWS)


def _is_here(source: str) -> bool:
    return Path(source).expanduser().exists()


def _has_room(data: DataConfig) -> bool:
    return data.max_length is None or data.max_length >= ROOM


def _made_up(data: DataConfig | SourceConfig, path: Path, kind: Kind, changes: list[str], *, is_long: bool) -> Path:
    """Rows in the format of a source that is not here."""
    format = "columns" if data.format == "auto" else data.format
    if data.format == "auto" and kind == "labelled":
        format = "kto"
    assumed = ", which `data.format` does not name: assumed" if data.format == "auto" else ""
    changes.append(f"data: {ROWS} made-up rows of the format {format}{assumed}, for {data.source}")
    return write_rows(path, format, kind, ROWS, columns=data.columns, is_long=is_long)


def _small_source(
    source: SourceConfig, number: int, folder: Path, kind: Kind, changes: list[str], *, is_long: bool
) -> SourceConfig:
    if _is_here(source.source):
        changes.append(f"data: the first {ROWS} rows of {source.source}")
        return replace(source, limit=min(source.limit or ROWS, ROWS))
    path = _made_up(source, folder / f"mixture-{number}.parquet", kind, changes, is_long=is_long)
    return replace(source, source=str(path), subset=None, split="train", media_dir=None)


def _small_eval(small: DataConfig, data: DataConfig, folder: Path, kind: Kind, changes: list[str]) -> DataConfig:
    if data.eval_source is None:
        return small
    if _is_here(data.eval_source):
        changes.append(f"held-out rows: the first {HELD_OUT} of {data.eval_source}")
        whole = data.eval_split.partition("[")[0]
        return replace(small, eval_split=f"{whole}[:{HELD_OUT}]")
    format = "columns" if data.format == "auto" else data.format
    changes.append(f"held-out rows: {HELD_OUT} made-up ones of the format {format}, for {data.eval_source}")
    path = write_rows(
        folder / "test.parquet", format, kind, HELD_OUT, columns=data.columns, seed=1, is_long=_has_room(data)
    )
    return replace(small, eval_source=str(path), eval_split="test")


def _small_registry(data: DataConfig, folder: Path, kind: Kind, changes: list[str]) -> Path:
    """The registry again, with made-up files for what is not here."""
    assert data.registry is not None
    path = Path(data.registry).expanduser()
    path = path / "dataset_info.json" if path.is_dir() else path
    if not path.is_file():
        raise DataError(f"data.registry: there is no file {path}. Give LLaMA-Factory's dataset_info.json.")
    entries: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    for name in data.names:
        entry = dict(entries.get(name) or {})
        file = path.parent / str(entry.get("file_name", ""))
        if "file_name" in entry and file.exists():
            entry["file_name"] = str(file.resolve())
        elif entry:
            made = _registered_rows(folder / f"{name}.parquet", entry, kind, is_long=_has_room(data))
            entry = {key: value for key, value in entry.items() if key not in ELSEWHERE} | {"file_name": str(made)}
            changes.append(f"data: {ROWS} made-up rows as the registry describes {name}")
        entries[name] = entry
    written = folder / "dataset_info.json"
    written.write_text(json.dumps(entries), encoding="utf-8")
    return written


ELSEWHERE = ("hf_hub_url", "ms_hub_url", "om_hub_url", "script_url", "subset", "split", "folder")


def _registered_rows(path: Path, entry: Mapping[str, Any], kind: Kind, *, is_long: bool) -> Path:
    """Rows with the columns and tags that an entry says."""
    format = "alpaca" if entry.get("formatting", "alpaca") == "alpaca" else "sharegpt"
    columns = entry.get("columns") or (ALPACA if format == "alpaca" else SHAREGPT)
    ours = {"prompt": "instruction", "query": "input", "response": "output", "messages": "conversations"}
    renamed = {ours.get(key, key): own for key, own in columns.items()}
    write_rows(path, format, kind, ROWS, columns=renamed, is_long=is_long)
    tags = entry.get("tags")
    if tags and format == "sharegpt":
        _retag(path, renamed, tags)
    return path


def _retag(path: Path, columns: Mapping[str, str], tags: Mapping[str, str]) -> None:
    """The same file with the entry's own words for roles and contents."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    words = {"human": tags.get("user_tag", "human"), "gpt": tags.get("assistant_tag", "gpt")}

    def turn(value: Any) -> Any:
        if isinstance(value, list):
            return [turn(one) for one in value]
        return {tags.get("role_tag", "from"): words[value["from"]], tags.get("content_tag", "value"): value["value"]}

    rows = pq.read_table(path).to_pylist()
    named = [columns.get(name, name) for name in ("conversations", "chosen", "rejected")]
    for row in rows:
        row |= {name: turn(row[name]) for name in named if row.get(name) is not None}
    pq.write_table(pa.Table.from_pylist(rows), path)
