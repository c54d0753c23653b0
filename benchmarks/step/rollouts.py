"""A sampler whose answers are in the data: the same for every program, and at no cost."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from benchmarks.step.case import Case
from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.types import Prompt


class FixedSampler:
    """Answers every prompt with its row's column `answers`."""

    exact = True

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer

    def sample(
        self, prompts: Sequence[Prompt], num_responses: int, settings: SamplingSettings, seed: int
    ) -> list[list[Sampled]]:
        """The first `num_responses` answers of each row."""
        return [[self.read(said) for said in prompt.row["answers"][:num_responses]] for prompt in prompts]

    def read(self, said: str) -> Sampled:
        ids = self.tokenizer(said, add_special_tokens=False)["input_ids"]
        return Sampled(ids=torch.tensor([*ids, self.tokenizer.eos_token_id]), finished=True)

    def sync(self, policy: nn.Module) -> None:
        """The answers do not depend on the policy."""

    def close(self) -> None:
        """Nothing is held."""


def recorded_reward(completions: list[Any], scores: list[list[float]], **_: Any) -> list[float]:
    """A reward function, as Sightline and TRL call it: the row's column `scores`, one number an answer, in order."""
    return [row[i % len(row)] for i, row in enumerate(scores)]


def longest(case: Case) -> int:
    """Limit of an answer. A random model ends none by itself, so that sampled ones all have this length."""
    return case.response_tokens if case.samples else 2 * case.response_tokens
