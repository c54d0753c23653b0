"""LLaMA-Factory's `dataset_info.json`, read as it is → parts whose columns go by the names of our formats.

Its defaults hold until `columns` or `tags` is given; then whatever is not listed is unset.
"""

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from sightline.data.formats.names import IMAGE_COLUMNS
from sightline.data.rows import Part
from sightline.data.sources.files import read_path
from sightline.data.sources.hub import read_hub
from sightline.data.sources.reader import Seen
from sightline.errors import DataError

ALPACA = {"prompt": "instruction", "query": "input", "response": "output"}
SHAREGPT = {"messages": "conversations"}
TAGS = {
    "role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt",
    "observation_tag": "observation", "function_tag": "function_call", "system_tag": "system",
}  # fmt: skip
OUR_NAMES = {
    "prompt": "instruction", "query": "input", "response": "output", "history": "history", "messages": "conversations",
    "system": "system", "images": "images", "chosen": "chosen", "rejected": "rejected", "kto_tag": "kto_tag",
}  # fmt: skip
"""What the registry calls a column → what our formats call it."""
ROLE_TAGS = {
    "user_tag": "human", "assistant_tag": "gpt", "observation_tag": "observation", "function_tag": "function_call",
    "system_tag": "system",
}  # fmt: skip


def read_registry(path: Path, names: list[str], media_dir: Path | None, *, streaming: bool = False) -> list[Part]:
    """The parts of the named data sets. streaming: hub data sets are not downloaded.

    Raises `DataError` for a name or file that is not there.
    """
    if path.is_dir():
        path = path / "dataset_info.json"
    try:
        entries = json.loads(path.read_text(encoding="utf-8-sig"))
    except (OSError, ValueError, RecursionError) as error:
        raise DataError(
            f"data.registry: {path} cannot be read ({error}). Give LLaMA-Factory's dataset_info.json."
        ) from error
    if not isinstance(entries, dict) or not names:
        raise DataError(f"data.names: say which data sets of {path} to read, for instance [rlhf_v].")
    missing = [name for name in names if not isinstance(entries.get(name), dict)]
    if missing:
        raise DataError(f"data.names: {path} has no {missing[0]!r}. It has {', '.join(entries)}.")
    return [part for name in names for part in _read_entry(path, name, entries[name], media_dir, streaming)]


def _read_entry(path: Path, name: str, entry: Mapping[str, Any], media_dir: Path | None, streaming: bool) -> list[Part]:
    _require_types(path, name, entry)
    split = entry.get("split") or "train"
    if entry.get("hf_hub_url"):
        options = {"subset": entry.get("subset"), "folder": entry.get("folder")}
        parts = [read_hub(entry["hf_hub_url"], split, **options, streaming=streaming)]
    elif entry.get("file_name"):
        file = path.parent / entry["file_name"]
        if not file.exists():
            raise DataError(f"{path}: the data set {name!r} is the file {str(file)!r}, which is not there.")
        parts = [replace(part, media_dir=media_dir or path.parent) for part in read_path(file, split)]
    else:
        raise DataError(
            f"{path}: the data set {name!r} has neither hf_hub_url nor file_name; scripts and ModelScope are not read. "
            "Download it and give file_name."
        )
    formatting = entry.get("formatting") or "alpaca"
    if formatting not in ("alpaca", "sharegpt", "openai"):
        raise DataError(
            f"{path}: the formatting {formatting!r} of {name!r} is not known. Known: alpaca, sharegpt, openai."
        )
    columns = _columns(entry, formatting)
    tags = {tag: _tag(entry, tag) for tag in TAGS} if formatting != "alpaca" else None
    tables = [Registered(part.table, columns, tags, bool(entry.get("ranking"))) for part in parts]
    format = "alpaca" if formatting == "alpaca" else "sharegpt"
    limit = entry.get("num_samples")
    return [
        replace(part, table=table, source=name, format=format, limit=limit, stamp=f"{part.stamp} {json.dumps(entry)}")
        for part, table in zip(parts, tables, strict=True)
    ]


def _require_types(path: Path, name: str, entry: Mapping[str, Any]) -> None:
    """Raise `DataError` for a value of another kind than LLaMA-Factory's."""
    kinds: dict[str, type] = {
        **dict.fromkeys(("file_name", "hf_hub_url", "split", "subset", "folder", "formatting"), str),
        **dict.fromkeys(("columns", "tags"), dict),
        "num_samples": int,
    }
    for key, kind in kinds.items():
        value = entry.get(key)
        values = list(value.values()) if isinstance(value, dict) else []
        if value is not None and (type(value) is not kind or any(not isinstance(v, str | None) for v in values)):
            expected = "a mapping of names" if kind is dict else "a number" if kind is int else "text"
            raise DataError(f"{path}: {key} of {name!r} should be {expected}, it is {value!r:.60}.")


def _columns(entry: Mapping[str, Any], formatting: str) -> dict[str, str]:
    """Our name of a column → the source's."""
    given = entry.get("columns")
    if given is None:
        given = ALPACA if formatting == "alpaca" else SHAREGPT
    return {OUR_NAMES[key]: own for key, own in given.items() if key in OUR_NAMES and own}


def _tag(entry: Mapping[str, Any], tag: str) -> str | None:
    return entry["tags"].get(tag) if "tags" in entry else TAGS[tag]


class Registered(Seen):
    """A table seen through a registry entry: alpaca or ShareGPT rows under our names.

    columns: our name → the source's. tags: registry tag → the source's word, for conversations. ranking: whether
    `chosen` and `rejected` are read; a registry entry without it means the answers in the conversation.
    """

    def __init__(self, table: Any, columns: dict[str, str], tags: dict[str, str | None] | None, ranking: bool) -> None:
        self.table, self.columns, self.tags = table, columns, tags
        if not ranking:
            self.columns = {k: v for k, v in columns.items() if k not in ("chosen", "rejected")}
        self.roles = {tags[tag]: ours for tag, ours in ROLE_TAGS.items() if tags[tag]} if tags else {}

    def seen(self, row: Any) -> Any:
        """The row under our names."""
        if not isinstance(row, Mapping):
            return row
        own = set(self.columns.values())
        ours = {name: row.get(column) for name, column in self.columns.items()}
        if self.tags:
            for name in ("conversations", "chosen", "rejected"):
                if ours.get(name) is not None:
                    ours[name] = self._turns(ours[name])
        rest = {k: v for k, v in row.items() if k not in own and k not in OUR_NAMES.values() and k not in IMAGE_COLUMNS}
        unlisted = {k: v for k, v in row.items() if k not in own and k in IMAGE_COLUMNS}
        # not ours to read, but not to be dropped unsaid: formats name a column that holds images
        return {**rest, **{f"{k} (not listed in the registry)": v for k, v in unlisted.items()}, **ours}

    def _turns(self, value: Any) -> Any:
        """The same turns with our words for roles; what is not a turn is left for the format to name."""
        if isinstance(value, list | tuple):
            return [self._turns(turn) for turn in value]
        if not isinstance(value, Mapping) or not self.tags:
            return value
        role, content = value.get(self.tags["role_tag"]), value.get(self.tags["content_tag"])
        rest = {k: v for k, v in value.items() if k not in (self.tags["role_tag"], self.tags["content_tag"])}
        return {**rest, "from": self.roles.get(role, role), "value": content}
