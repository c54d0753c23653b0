"""A user's columns that are called like everything that the program itself knows of rows, prompts and responses."""

from dataclasses import fields
from typing import Any

from sightline.generation.sampling import Sampled
from sightline.rewards.completions import Completions
from sightline.rewards.reward_set import GIVEN, TABLE
from sightline.training.online.rollouts import Rollout
from sightline.types import BadRow, Batch, Columns, Example, Group, LogProbs, Prompt, Response

RECORDS = (BadRow, Batch, Columns, Example, Group, LogProbs, Prompt, Response, Completions, Sampled, Rollout)

FORMATS = {"images", "image", "completion", "response"}
"""Names that row formats read images and answers from; tests/data/test_formats.py has them."""

EVERY_NAME = sorted(
    {f.name for record in RECORDS for f in fields(record)}
    | {"extra", "turns", "sightline/left_out", "sightline/truncated", "groups", "solution", "state", "trainer", "self"}
    | {"seconds", "function", "timeout", "reward", "args", "kwargs", "name", "values", "num_responses", "seed"}
    | {"settings", "reference", "objective", "input_ids", "attention_mask", "labels", "pixel_values", *TABLE}
)  # fmt: skip
"""Every such name."""

NAMES = [name for name in EVERY_NAME if name not in FORMATS]
"""Those that a data set may use for whatever it likes; `question` holds the prompt beside them."""

FREE_NAMES = [name for name in NAMES if name not in GIVEN]
"""Those that a data set for rewards may use: the others are arguments that rewards get from the run."""

VALUES: dict[str, Any] = {
    "str": "cat",
    "int": 3,
    "bool": True,
    "list": [1, "a", None],
    "dict": {"a": [1.5]},
    "None": None,
}
"""A value of each type that a column may have."""


def named(value: Any, names: list[str] = NAMES) -> dict[str, Any]:
    """All of the columns with this value."""
    return dict.fromkeys(names, value)
