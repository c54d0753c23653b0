"""The column names that each part of a row goes by."""

from collections.abc import Mapping
from typing import Any

IMAGE_COLUMNS = ("images", "image", "image_path", "image_paths", "img")
QUESTION_COLUMNS = ("question", "query", "prompt", "problem")
PAIR_COLUMNS = ("chosen", "rejected")
ANSWER_COLUMNS = ("answer", "completion", "response", "output", "caption", "label")
"""`label` comes last: beside another answer it is a class, a grade, or KTO's."""


def present(row: Mapping[str, Any], names: tuple[str, ...]) -> str | None:
    """The first of `names` that the row has, with a value."""
    return next((n for n in names if row.get(n) is not None), None)
