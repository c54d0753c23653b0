"""A reward of your own: one point for a completion that names the color in the row's column `color`.

    rewards: {examples/own_reward.py:names_color: 1.0}

A reward takes `completions` (strings, or message lists for conversational rows), `prompts`, and every column of your
rows by its name; it returns a number for each completion, or None where it cannot judge.
"""

from typing import Any


def names_color(completions: list[str], color: list[str | None], **columns: Any) -> list[float | None]:
    """1 where the completion has the color's name, 0 where not, None for rows without a color."""
    return [
        None if wanted is None else float(wanted.lower() in completion.lower())
        for completion, wanted in zip(completions, color, strict=True)
    ]
