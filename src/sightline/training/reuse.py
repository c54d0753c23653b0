"""Answers that are trained on in several steps, and how they survive a stop between two of them."""

from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch.utils.data import Dataset

from sightline.types import Group


@dataclass
class Reuse:
    """Groups of a round of sampling: split over `steps_per_generation` steps, and gone through `num_iterations` times.

    indices: of the groups' rows in the data set, to read their prompts again. next_step: how many steps used them.
    """

    steps_per_generation: int
    num_iterations: int
    groups: list[Group] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    next_step: int = 0

    @property
    def num_steps(self) -> int:
        """Steps that one round of sampling serves."""
        return self.steps_per_generation * self.num_iterations

    @property
    def is_used_up(self) -> bool:
        return not self.groups or self.next_step == self.num_steps

    def fill(self, groups: list[Group], indices: list[int]) -> None:
        """Start anew with these groups, a multiple of `steps_per_generation`."""
        assert len(groups) == len(indices) and len(groups) % self.steps_per_generation == 0
        self.groups, self.indices, self.next_step = groups, indices, 0

    def take(self) -> list[Group]:
        """The groups of the next step."""
        assert not self.is_used_up
        size = len(self.groups) // self.steps_per_generation
        start = self.next_step % self.steps_per_generation * size
        self.next_step += 1
        return self.groups[start : start + size]

    def state(self) -> dict[str, Any]:
        """Everything but the prompts, to go on from."""
        answers = [{"responses": group.responses, "extra": group.extra} for group in self.groups]
        return {"indices": self.indices, "next_step": self.next_step, "answers": answers}

    def load_state(self, state: dict[str, Any], prompts: Dataset[Group]) -> None:
        """Put back what `state` gave, with the prompts from the data set."""
        self.indices, self.next_step = state["indices"], state["next_step"]
        self.groups = []
        for index, answer in zip(self.indices, state["answers"], strict=True):
            prompt = prompts[index]
            assert isinstance(prompt, Group)
            weights = tuple(torch.ones(len(response)) for response in answer["responses"])
            self.groups.append(replace(prompt, responses=answer["responses"], weights=weights, extra=answer["extra"]))
