"""What a row says of one response, desirable or not: KTO's `label`, LLaMA-Factory's `kto_tag`."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.parsed import Parsed

WORDS = {
    "true": True, "1": True, "1.0": True, "+1": True, "good": True, "desirable": True, "chosen": True, "yes": True,
    "positive": True,
    "false": False, "0": False, "0.0": False, "-1": False, "-1.0": False, "bad": False, "undesirable": False,
    "rejected": False, "no": False, "negative": False,
}  # fmt: skip
"""Texts that are labels, in lower case."""
NUMBERS: dict[float, bool] = {1: True, 0: False, -1: False}


def desirable(value: Any) -> bool | None:
    """True or false of a boolean, 1, 0, −1 or a word of `WORDS`; None for anything else."""
    if isinstance(value, str):
        return WORDS.get(value.strip().lower())
    return NUMBERS.get(value) if isinstance(value, bool | int | float) else None


def labelled(parsed: Parsed, row: Mapping[str, Any], column: str, where: str) -> Parsed:
    """The same with its one response labelled by the column, which stays among the row's: rewards may read it.

    Raises `RowError` for what is no label."""
    label = desirable(row[column])
    if label is None:
        what = (
            f"{column} should be true or false (1 or 0, 1 or -1, good or bad, desirable or undesirable), it is "
            f"{row[column]!r:.60}"
        )
        raise RowError("column has the wrong type", where, what)
    if len(parsed.responses) != 1:
        what = f"{column} labels one response, the row has {len(parsed.responses)}"
        raise RowError("response missing", where, what)
    (response,) = parsed.responses
    return replace(parsed, responses=(replace(response, label=label),))
