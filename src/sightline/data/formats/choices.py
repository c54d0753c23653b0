"""Choices in columns of their own (ScienceQA, MMMU, VLMEvalKit's tables), which the question does not show."""

import ast
import json
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from sightline.data.defects import RowError

COLUMNS = ("choices", "options", "candidates")
LETTERS = "ABCDEFGH"


def refuse_unseen_choices(row: Mapping[str, Any], question: str, responses: list[str], where: str) -> None:
    """Raise `RowError` where a response is the number or letter of a choice that the question does not hold."""
    found = _choices(row)
    if found is None or not responses:
        return
    name, choices = found
    names = {str(i) for i in range(len(choices) + 1)} | set(LETTERS[: len(choices)])
    if not any(text.strip().strip("().").upper() in names for text in responses):
        return
    if not all(choice.strip().lower() in question.lower() for choice in choices):
        what = f"the response {responses[0].strip()!r:.20} names one of {name}, which the question does not show"
        raise RowError("choices not shown", where, what)


def _choices(row: Mapping[str, Any]) -> tuple[str, list[str]] | None:
    """The column or columns of the choices, and their texts."""
    for name in COLUMNS:
        value = row.get(name)
        if isinstance(value, str) and value.strip().startswith("["):
            for read in (json.loads, ast.literal_eval):
                with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                    value = read(row[name])
                    break
        if isinstance(value, list | tuple) and len(value) > 1:
            return name, [str(choice) for choice in value]
    letters = [letter for letter in LETTERS if isinstance(row.get(letter), str | int | float)]
    if letters[:2] == ["A", "B"]:
        return ", ".join(letters), [str(row[letter]) for letter in letters]
    return None
