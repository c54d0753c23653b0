"""The row formats: which one a row is in, and row → `Example`.

Whether `<image>` in a text is a tag that stands for an image is decided for each row by itself, and so is its format.
A format that is named in the recipe holds for all rows: in `columns` and `conversational` tags are then text.
`rendered` rows carry a model's own template.
"""

import itertools
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.alpaca import parse_alpaca
from sightline.data.formats.columns import parse_columns
from sightline.data.formats.content import messages_as_text
from sightline.data.formats.conversational import parse_conversational
from sightline.data.formats.image_columns import is_filled
from sightline.data.formats.kto import parse_kto
from sightline.data.formats.labels import desirable
from sightline.data.formats.names import ANSWER_COLUMNS, IMAGE_COLUMNS, PAIR_COLUMNS, QUESTION_COLUMNS, present
from sightline.data.formats.opening import COLUMNS as OPENING_COLUMNS
from sightline.data.formats.parsed import Parsed
from sightline.data.formats.rendered import dialect_of, parse_rendered
from sightline.data.formats.sharegpt import parse_sharegpt
from sightline.data.formats.tags import num_tags
from sightline.data.formats.unread import refuse_unread_columns
from sightline.data.media.find import Media
from sightline.types import Example

PARSERS: dict[str, Callable[[Mapping[str, Any], str, Media], Parsed]] = {
    "conversational": parse_conversational,
    "columns": parse_columns,
    "openai": partial(parse_conversational, tags=True),
    "sharegpt": parse_sharegpt,
    "alpaca": parse_alpaca,
    "mmpr": partial(parse_columns, tags=True),
    "kto": partial(parse_kto, tags=True),
    "rendered": parse_rendered,
}
"""Format → (row, where, media) → prompt, images, responses."""

WITH_TAGS = {"conversational": "openai", "columns": "mmpr"}
"""Formats that differ only in whether `<image>` in a text stands for an image."""


PROMPT_APART = ("columns", "mmpr", "alpaca")
"""Formats whose prompt never depends on the columns of responses."""

RESPONSE_COLUMNS = (*PAIR_COLUMNS, *ANSWER_COLUMNS)


def recognise(row: Any, where: str = "the row") -> str:
    """The format of a row by its columns, their types and its tags. Raises `RowError` when it fits none."""
    name = _shape(row, where)
    return WITH_TAGS[name] if name in WITH_TAGS and any(num_tags(text) for text in _texts(row)) else name


def recognise_source(rows: Iterable[Any], sample: int = 64) -> str:
    """The formats of a source's first rows, the most frequent first, for people to read; `auto` where none is known."""
    found: Counter[str] = Counter()
    for row in itertools.islice(rows, sample):
        try:
            found[recognise(row)] += 1
        except RowError:
            continue
    return ", ".join(name for name, _ in found.most_common()) or "auto"


def parse(
    row: Any,
    *,
    format: str = "auto",
    source: str,
    row_number: int,
    media_dir: Path | None = None,
    allow_urls: bool = False,
    ignore: Collection[str] = (),
    prompt_only: bool = False,
) -> Example:
    """A row as an `Example`: two responses where it has chosen and rejected, one where it has an answer, else none.

    format: a key of `PARSERS`, or auto. media_dir, allow_urls: see `media.Media`. ignore: columns that are only passed
    on. prompt_only: no response is wanted; columns that could hold one are only passed on, too. Raises `RowError`.
    """
    where = f"{source}, row {row_number}"
    _require_mapping(row, where)
    ignored = {name: row[name] for name in ignore if name in row}
    row = _with_rejected({k: v for k, v in row.items() if k not in ignored}, where)
    media = Media(folder=media_dir, allow_urls=allow_urls)
    name = _shape(row, where) if format == "auto" else format
    asked = row
    if prompt_only and name in PROMPT_APART:
        asked = {column: value for column, value in row.items() if column not in RESPONSE_COLUMNS}
    parsed = PARSERS[WITH_TAGS.get(name, name) if format == "auto" else name](asked, where, media)
    parsed = _labelled(parsed, row, name)
    empty = {name for name in IMAGE_COLUMNS if not is_filled(row.get(name))}
    left_out = {*empty, *OPENING_COLUMNS, *parsed.consumed}
    kept = {k: v for k, v in row.items() if k not in left_out}
    refuse_unread_columns({k: v for k, v in kept.items() if k not in parsed.image_columns}, row, parsed, where, media)
    if prompt_only:
        parsed = replace(parsed, responses=())
        kept |= {column: row[column] for column in RESPONSE_COLUMNS if column in row}
    return Example(
        id=f"{source}:{row_number}",
        source=source,
        row_number=row_number,
        prompt=parsed.prompt,
        images=parsed.images,
        responses=parsed.responses,
        row={**kept, **ignored},
    )


def _labelled(parsed: Parsed, row: Mapping[str, Any], format: str) -> Parsed:
    """A single response with the row's `label`, if it is true or false; a label that is itself the answer is none."""
    is_answer = format in ("columns", "mmpr") and present(row, ANSWER_COLUMNS) == "label"
    label = None if is_answer else desirable(row.get("label"))
    if label is None or len(parsed.responses) != 1 or parsed.responses[0].label is not None:
        return parsed
    return replace(parsed, responses=(replace(parsed.responses[0], label=label),))


def _with_rejected(row: Mapping[str, Any], where: str) -> Mapping[str, Any]:
    """ms-swift's pairs (`messages` or `query, response`, and `rejected_response`) under the names of our columns."""
    rejected = row.get("rejected_response")
    if rejected is None or row.get("rejected") is not None or row.get("chosen") is not None:
        return row
    row = {k: v for k, v in row.items() if k != "rejected_response"}
    messages = messages_as_text(row.get("messages"))
    if isinstance(messages, list) and messages and isinstance(messages[-1], Mapping):
        return {**row, "messages": messages[:-1], "chosen": messages[-1:], "rejected": rejected}
    if row.get("response") is not None:
        return {**{k: v for k, v in row.items() if k != "response"}, "chosen": row["response"], "rejected": rejected}
    raise RowError("response missing", where, "the row has rejected_response and no messages or response beside it")


def _shape(row: Any, where: str) -> str:
    """The format by columns and types alone."""
    _require_mapping(row, where)
    conversations = row.get("conversations")
    if any(_is_messages(conversations, key) for key in ("from", "role")) or isinstance(conversations, str):
        return "sharegpt"
    if row.get("completion") is not None and "label" in row:
        label = row["label"]
        if label is None or desirable(label) is not None:
            return "kto"
    if any(_is_messages(row.get(name), "role") for name in ("messages", "prompt", "chosen", "completion")):
        return "conversational"
    if dialect_of(row) is not None:
        return "rendered"
    if isinstance(row.get("instruction"), str):
        return "alpaca"
    if present(row, QUESTION_COLUMNS) is not None or present(row, ANSWER_COLUMNS) is not None:
        return "columns"
    if row.get("chosen") is not None or row.get("rejected") is not None:
        return "columns"
    columns = ", ".join(map(str, row)) or "(none)"
    raise RowError("format not recognised", where, f"no known format has the columns {columns:.300}")


def _require_mapping(row: Any, where: str) -> None:
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        found = type(row).__name__
        raise RowError("row unreadable", where, f"a row is a mapping of columns to values, got {found}")


def _is_messages(value: Any, key: str) -> bool:
    """A list of messages, or one message, or either in JSON."""
    value = messages_as_text(value)
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Mapping) and key in first


def _texts(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row's prompt, as far as they are plain strings or text parts."""
    name = present(row, ("messages", *QUESTION_COLUMNS))
    prompt = messages_as_text(row[name] if name is not None else row.get("chosen"))
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list | tuple):
        return []
    asked = [m for m in prompt if isinstance(m, Mapping) and m.get("role") != "assistant"]
    contents = [content for m in asked for content in _as_parts(m.get("content"))]
    texts = [c.get("text") if isinstance(c, Mapping) else c for c in contents]
    return [text for text in texts if isinstance(text, str)]


def _as_parts(content: Any) -> list[Any]:
    return list(content) if isinstance(content, list | tuple) else [content]
