"""What a message says besides role and content: whether it is trained, and what must not be dropped in silence.

Read: `weight`, `loss`, `loss_mask`, `train`, `trainable`, `training` (OpenAI, ms-swift, axolotl and others). Refused:
tool calls, reasoning, media, anything else about training. Any other key (an id, a date) says nothing to the model.
"""

import math
import re
from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError

WEIGHT_KEYS = ("weight", "loss", "loss_mask", "train", "trainable", "training", "loss_weight")
ABOUT_TRAINING = re.compile(r"loss|weight|train|mask|learn|supervis|ignore|target", re.IGNORECASE)
"""Keys by which others may say what is trained: whatever they hold, it is not known what it means."""
RENDERED_ELSEWHERE = re.compile(
    r"tool_?calls?$|function_?call$|reason|think|thought|prefix|partial|prefill|(?P<media>video|audio|media|attachment)",
    re.IGNORECASE,
)
"""Keys that others render. `tool_call_id` only ties an answer to its call."""


def weight_of(message: Mapping[str, Any], role: str, where: str) -> float:
    """How much an assistant's turn counts as a target: 1, or what the message says. Raises `RowError`."""
    given = {key: message[key] for key in WEIGHT_KEYS if message.get(key) is not None}
    weights = {key: _number(value) for key, value in given.items()}
    for key, weight in weights.items():
        if weight is None or not 0 <= weight < math.inf:
            what = f"a message's {key} should be true, false or a number from 0 on, it is {given[key]!r:.60}"
            raise RowError("column has the wrong type", where, what)
        if role != "assistant" and key not in ("weight", "loss_weight") and weight > 0:
            what = f"the {role}'s turn has {key}: {given[key]!r}; only the assistant's turns are targets"
            raise RowError("key not read", where, what)
    if len(set(weights.values())) > 1:
        found = ", ".join(f"{key}: {value!r}" for key, value in given.items())
        raise RowError("columns disagree", where, f"a message has {found}")
    return next((weight for weight in weights.values() if weight is not None), 1.0)


def refuse_unread(message: Mapping[str, Any], where: str) -> None:
    """Raise `RowError` for a key that says something to a model and is not read."""
    for key, value in message.items():
        if not isinstance(key, str) or key in WEIGHT_KEYS or value is None:
            continue
        rendered = RENDERED_ELSEWHERE.search(key)
        if ABOUT_TRAINING.search(key) or (rendered and not is_empty(value)):
            defect = "media not read" if rendered and rendered["media"] else "key not read"
            raise RowError(defect, where, f"a message has {key}: {value!r:.80}")


def is_empty(value: Any) -> bool:
    """Whether a value says nothing: null, false, spaces, an empty list, or one written as text."""
    if isinstance(value, str):
        return value.strip() in ("", "[]", "{}", "null", "None")
    return not value if isinstance(value, bool | list | tuple | Mapping) else value is None


def _number(value: Any) -> float | None:
    return float(value) if isinstance(value, bool | int | float) else None
