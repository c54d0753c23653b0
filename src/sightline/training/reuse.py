"""Answers that are trained on in several steps, and how they survive a stop between two of them."""

from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor
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

    def save(self, path: Path) -> None:
        """Everything but the prompts."""
        tensors: dict[str, Tensor] = {
            "indices": torch.tensor(self.indices, dtype=torch.long),
            "next_step": torch.tensor(self.next_step),
        }
        for i, group in enumerate(self.groups):
            tensors[f"{i}.responses"] = torch.cat(group.responses)
            tensors[f"{i}.lengths"] = torch.tensor([len(response) for response in group.responses])
            tensors |= {f"{i}.extra.{name}": value for name, value in group.extra.items()}
        save_file(tensors, path)

    def load(self, path: Path, prompts: Dataset[Group]) -> None:
        """What `save` wrote, with the prompts from the data set."""
        tensors = load_file(path)
        self.indices, self.next_step = tensors["indices"].tolist(), int(tensors["next_step"])
        self.groups = []
        for i, index in enumerate(self.indices):
            responses = tensors[f"{i}.responses"].split(tensors[f"{i}.lengths"].tolist())
            extra = {
                name.removeprefix(f"{i}.extra."): value
                for name, value in tensors.items()
                if name.startswith(f"{i}.extra.")
            }
            prompt = prompts[index]
            assert isinstance(prompt, Group)
            weights = tuple(torch.ones(len(response)) for response in responses)
            self.groups.append(replace(prompt, responses=tuple(responses), weights=weights, extra=extra))
