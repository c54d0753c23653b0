"""The column names that each part of a row goes by."""

from collections.abc import Mapping
from typing import Any

PICTURE_COLUMNS = ("images", "image", "image_path", "image_paths", "img")
QUESTION_COLUMNS = ("question", "query", "prompt", "problem")
ANSWER_COLUMNS = ("answer", "label", "completion", "response", "caption", "output")


def present(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of `names` that the row has, with a value."""
    return next((n for n in names if row.get(n) is not None), None)


def picture_column(row: Mapping[str, Any]) -> Any:
    """The value of the row's picture column, or None."""
    name = present(row, PICTURE_COLUMNS)
    return None if name is None else row[name]


def num_pictures(row: Mapping[str, Any]) -> int:
    """How many pictures the picture column holds."""
    value = picture_column(row)
    if isinstance(value, list | tuple):
        return sum(v is not None for v in value)
    return int(value is not None)
