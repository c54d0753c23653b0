"""The row formats: which one a row is in, and row → `Example`.

`columns` and `conversational` carry pictures in columns or content parts; `<image>` in their texts is text.
"""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.columns import parse_columns
from sightline.data.formats.conversational import parse_conversational
from sightline.data.formats.names import ANSWER_COLUMNS, PICTURE_COLUMNS, QUESTION_COLUMNS, present
from sightline.data.formats.parsed import Parsed
from sightline.types import Example

PARSERS: dict[str, Callable[[Mapping[str, Any], str, Path | None], Parsed]] = {
    "conversational": parse_conversational,
    "columns": parse_columns,
}
"""Format → (row, where, media_dir) → prompt, pictures, responses."""


def recognise(row: Any, where: str = "the first row") -> str:
    """The format of a row by its columns and their types. Raises `RowError` when it fits none."""
    _require_mapping(row, where)
    if any(_is_messages(row.get(name)) for name in ("messages", "prompt", "chosen", "completion")):
        return "conversational"
    if present(row, QUESTION_COLUMNS) is not None or present(row, ANSWER_COLUMNS) is not None:
        return "columns"
    raise RowError(
        "format not recognised", where, f"no known format has the columns {', '.join(map(str, row)) or '(none)'}"
    )


def parse(row: Any, *, format: str = "auto", source: str, row_number: int, media_dir: Path | None = None) -> Example:
    """A row as an `Example`: two responses where it has chosen and rejected, one where it has an answer, else none.

    format: a key of `PARSERS`, or auto. media_dir: see `media.picture`. Raises `RowError`.
    """
    where = f"{source}, row {row_number}"
    _require_mapping(row, where)
    name = recognise(row, where) if format == "auto" else format
    parsed = PARSERS[name](row, where, media_dir)
    left_out = {*PICTURE_COLUMNS, *parsed.consumed}
    return Example(
        id=f"{source}:{row_number}",
        source=source,
        row=row_number,
        prompt=parsed.prompt,
        images=parsed.images,
        responses=parsed.responses,
        extra={k: v for k, v in row.items() if k not in left_out},
    )


def _require_mapping(row: Any, where: str) -> None:
    if not isinstance(row, Mapping):
        found = type(row).__name__
        raise RowError("row unreadable", where, f"a row is a mapping of columns to values, got {found}")


def _is_messages(value: Any) -> bool:
    """A list of messages, or one message."""
    first = value[0] if isinstance(value, list | tuple) and value else value
    return isinstance(first, Mapping) and "role" in first
