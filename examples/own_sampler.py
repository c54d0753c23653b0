"""A sampler of your own: completions from a list you already have, in place of sampling.

    sampler: {type: "examples/own_sampler.py:FromColumn", column: drafts, num_generations: 4}

Each row's column `drafts` holds at least `num_generations` texts. Where the log-probs are not the policy's own (`exact`
is False), return them: Sightline corrects by importance sampling (`sampler.importance_sampling`); a sampler without
log-probs needs `importance_sampling: none`, as here.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

import sightline as sl


class FromColumn:
    """`Sampler(model, processor, **options)`: the policy, its processor, and your options from the recipe."""

    exact = False

    def __init__(self, model: nn.Module, processor: Any, column: str = "drafts") -> None:
        self.tokenizer, self.column = processor.tokenizer, column

    def sample(
        self, prompts: Sequence[sl.Prompt], num_responses: int, settings: sl.SamplingSettings, seed: int
    ) -> list[list[sl.Sampled]]:
        """`num_responses` completions for each prompt, in the order of the prompts."""
        return [
            [self._tokens(text, settings.max_new_tokens) for text in prompt.row[self.column][:num_responses]]
            for prompt in prompts
        ]

    def _tokens(self, text: str, limit: int) -> sl.Sampled:
        ids = [*self.tokenizer(text, add_special_tokens=False)["input_ids"], self.tokenizer.eos_token_id]
        return sl.Sampled(ids=torch.tensor(ids[:limit]), finished=len(ids) <= limit)

    def sync(self, policy: nn.Module) -> None:
        """Called before each round with the policy's present weights; the list does not change."""

    def close(self) -> None:
        """Give back processes, memory, files: nothing here."""
