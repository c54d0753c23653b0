"""Turns of a process that has fewer micro-batches than the others, where a forward needs all processes.

It scores some group again and adds nothing: zero times its log-probs. Rows whose pictures train the tower need one in
every forward; the same group stands in there.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from sightline.types import Group


@dataclass
class Spare:
    """Keeps the smallest group seen so far, with a picture if there was one. first: gives one before any was seen."""

    first: Callable[[], Group]
    group: Group | None = field(default=None)

    def see(self, groups: list[Group]) -> None:
        """Take in a step's groups."""
        known = [self.group] if self.group is not None else []
        self.group = min([*known, *groups], key=_rank, default=None)

    def __call__(self) -> Group:
        if self.group is None:
            self.group = self.first()
        return self.group


def _rank(group: Group) -> tuple[bool, int]:
    return "pixel_values" not in group.model_inputs, group.num_tokens


def num_idle(num_pieces: int, gather: Callable[[Any], list[Any]]) -> int:
    """How many turns this process has to sit through."""
    return max(gather(num_pieces)) - num_pieces
