"""The row formats: which one a row or a source is in, and row → `Example`.

`openai`, `sharegpt`, `alpaca` and `mmpr` write `<image>` tags where pictures stand; in `columns`, `conversational`
and `kto` the same characters are text. `rendered` rows carry a model's own template.
"""

import itertools
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.alpaca import parse_alpaca
from sightline.data.formats.columns import parse_columns
from sightline.data.formats.conversational import parse_conversational
from sightline.data.formats.kto import labelled, parse_kto
from sightline.data.formats.names import ANSWER_COLUMNS, PICTURE_COLUMNS, QUESTION_COLUMNS, num_pictures, present
from sightline.data.formats.parsed import Parsed
from sightline.data.formats.rendered import dialect_of, parse_rendered
from sightline.data.formats.sharegpt import parse_sharegpt
from sightline.data.media.find import Media
from sightline.types import Example

PARSERS: dict[str, Callable[[Mapping[str, Any], str, Media], Parsed]] = {
    "conversational": parse_conversational,
    "columns": parse_columns,
    "openai": partial(parse_conversational, tags=True),
    "sharegpt": parse_sharegpt,
    "alpaca": parse_alpaca,
    "mmpr": partial(parse_columns, tags=True),
    "kto": parse_kto,
    "rendered": parse_rendered,
}
"""Format → (row, where, media) → prompt, pictures, responses."""

WITH_TAGS = {"conversational": "openai", "columns": "mmpr"}
"""Formats that differ only in whether `<image>` in a text stands for a picture."""


def recognise(row: Any, where: str = "the row") -> str:
    """The format of a row by its columns and their types. Raises `RowError` when it fits none.

    `<image>` is taken for a tag where there are as many of them as pictures, one at the edge of a text.
    """
    name = _shape(row, where)
    return WITH_TAGS[name] if name in WITH_TAGS and _tags_fit(row) else name


def recognise_source(rows: Iterable[Any], sample: int = 64) -> str:
    """The one format of a source by its first rows; `auto`, for row by row, where they differ or none is readable.

    A text that happens to hold `<image>` does not make a format with tags: every row with pictures must have them.
    """
    shapes: set[str] = set()
    fits: set[bool] = set()
    for row in itertools.islice(rows, sample):
        try:
            shapes.add(_shape(row, "the row"))
        except RowError:
            continue
        if num_pictures(row):
            fits.add(_tags_fit(row))
    if len(shapes) != 1:
        return "auto"
    (shape,) = shapes
    return WITH_TAGS.get(shape, shape) if fits == {True} else shape


def parse(
    row: Any,
    *,
    format: str = "auto",
    source: str,
    row_number: int,
    media_dir: Path | None = None,
    allow_urls: bool = False,
) -> Example:
    """A row as an `Example`: two responses where it has chosen and rejected, one where it has an answer, else none.

    format: a key of `PARSERS`, or auto. media_dir, allow_urls: see `media.Media`. Raises `RowError`.
    """
    where = f"{source}, row {row_number}"
    _require_mapping(row, where)
    name = recognise(row, where) if format == "auto" else format
    parsed = _labelled(PARSERS[name](row, where, Media(folder=media_dir, allow_urls=allow_urls)), row, name)
    left_out = {*_picture_columns(row), *parsed.consumed}
    return Example(
        id=f"{source}:{row_number}",
        source=source,
        row_number=row_number,
        prompt=parsed.prompt,
        images=parsed.images,
        responses=parsed.responses,
        row={k: v for k, v in row.items() if k not in left_out},
    )


def _picture_columns(row: Mapping[str, Any]) -> set[str]:
    """The column that pictures are read from, and those that could have held some and are empty."""
    return {name for name in PICTURE_COLUMNS if row.get(name) is None or name == present(row, PICTURE_COLUMNS)}


def _labelled(parsed: Parsed, row: Mapping[str, Any], format: str) -> Parsed:
    """A single response with the row's true or false `label`; a label that is itself the answer is none."""
    is_answer = format == "columns" and present(row, ANSWER_COLUMNS) == "label"
    if not isinstance(row.get("label"), bool) or is_answer or len(parsed.responses) != 1:
        return parsed
    return parsed if parsed.responses[0].label is not None else labelled(parsed, row["label"])


def _shape(row: Any, where: str) -> str:
    """The format by columns and types alone."""
    _require_mapping(row, where)
    conversations = row.get("conversations")
    if any(_is_messages(conversations, key) for key in ("from", "role")) or isinstance(conversations, str):
        return "sharegpt"
    if isinstance(row.get("label"), bool) and row.get("completion") is not None:
        return "kto"
    if any(_is_messages(row.get(name), "role") for name in ("messages", "prompt", "chosen", "completion")):
        return "conversational"
    if dialect_of(row) is not None:
        return "rendered"
    if isinstance(row.get("instruction"), str):
        return "alpaca"
    if present(row, QUESTION_COLUMNS) is not None or present(row, ANSWER_COLUMNS) is not None:
        return "columns"
    columns = ", ".join(map(str, row)) or "(none)"
    raise RowError("format not recognised", where, f"no known format has the columns {columns}")


def _require_mapping(row: Any, where: str) -> None:
    if isinstance(row, RowError):
        raise row
    if not isinstance(row, Mapping):
        found = type(row).__name__
        raise RowError("row unreadable", where, f"a row is a mapping of columns to values, got {found}")


def _is_messages(value: Any, key: str) -> bool:
    """A list of messages, or one message."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Mapping) and key in first


def _tags_fit(row: Mapping[str, Any]) -> bool:
    """As many `<image>` as pictures, and one at the edge of a text: a question *about* `<image>` is no use of it."""
    texts = _texts(row)
    fits = 0 < sum(text.count("<image>") for text in texts) == num_pictures(row)
    return fits and any(t.strip().startswith("<image>") or t.strip().endswith("<image>") for t in texts)


def _texts(row: Mapping[str, Any]) -> list[str]:
    """The texts of a row's prompt, as far as they are plain strings."""
    name = present(row, ("messages", *QUESTION_COLUMNS))
    prompt = row[name] if name is not None else row.get("chosen")
    if isinstance(prompt, str):
        return [prompt]
    if not isinstance(prompt, list | tuple):
        return []
    contents = [m.get("content") for m in prompt if isinstance(m, Mapping)]
    return [c for c in contents if isinstance(c, str)]
