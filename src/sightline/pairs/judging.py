"""The recipe's rewards over one batch of completions after another; no verdict is asked for twice."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from rich.console import Console

from sightline.config import Recipe
from sightline.errors import RewardError
from sightline.generation.sampling import Sampled
from sightline.pairs.choose import Judged
from sightline.pairs.completions import Completion
from sightline.pairs.journal import KEPT, Journal
from sightline.recipe import tree_of
from sightline.rewards.completions import Completions
from sightline.rewards.find import metric_name
from sightline.rewards.reward_set import RewardSet, Scores
from sightline.rewards.time_limit import TimeUp
from sightline.scoring.remembered import Remembered
from sightline.training.online.rollouts import as_completions
from sightline.types import Prompt

REPLIES = "replies.jsonl"
"""Replies of servers, by what they were asked."""


@dataclass(frozen=True)
class Judging:
    """Rewards, the journal of what they said, and the replies of servers."""

    rewards: RewardSet
    journal: Journal
    replies: Remembered
    console: Console

    @classmethod
    def of(
        cls, rewards: RewardSet, recipe: Recipe, functions: Sequence[Callable[..., Any]], console: Console
    ) -> "Judging":
        """With a journal of these rewards in the recipe's folder: others judge the same completions into another."""
        about = [[one["name"], one["options"], one["completions"]] for one in tree_of(recipe)["rewards"]]
        about += [[metric_name(function)] for function in functions]
        kept = Path(recipe.output_dir) / KEPT
        replies = Remembered(kept / REPLIES)
        rewards.remember(replies)
        journal = Journal(kept / f"scores-{Remembered.key(about)[:12]}.jsonl", {"rewards": about})
        return cls(rewards, journal, replies, console)

    def judged(
        self, number: int, prompts: Sequence[Prompt], found: Sequence[Sequence[Completion]]
    ) -> list[list[Judged]]:
        """Every completion with its score; asked only where the journal does not have this batch."""
        if number not in self.journal.records:
            self.journal.add(number, self._asked(prompts, found))
        record = iter(self.journal.records[number])
        return [[self._judged(one, next(record)) for one in some] for some in found]

    def _judged(self, completion: Completion, record: dict[str, Any]) -> Judged:
        """With the weighted sum of the rewards that apply: weights are none of the journal's business."""
        values: dict[str, float | None] = record["values"]
        applied = {n: v for n, v in values.items() if v is not None and self.rewards.weights[n]}
        score = sum(self.rewards.weights[name] * value for name, value in applied.items()) if applied else math.nan
        return Judged(completion=completion, score=score, values=values, logged=record["logged"])

    def _asked(self, prompts: Sequence[Prompt], found: Sequence[Sequence[Completion]]) -> list[dict[str, Any]]:
        flat = [(prompt, one) for prompt, some in zip(prompts, found, strict=True) for one in some]
        if not flat:
            return []
        texts = [[one.text] for _, one in flat]
        sampled = [[Sampled(ids=torch.tensor(one.ids), finished=one.finished)] for _, one in flat]
        completions = as_completions([prompt for prompt, _ in flat], sampled, texts)
        scores = self._scored(completions)
        return [
            {
                "values": {
                    name: _number(value) for name, value in zip(self.rewards.names, scores.values[i], strict=True)
                },
                "logged": {name: values[i] for name, values in scores.columns.items()},
            }
            for i in range(len(flat))
        ]

    def _scored(self, completions: Completions) -> Scores:
        """The rewards' verdicts. A time limit that was reached while a server kept replying is begun anew: what it has
        said is not asked again."""
        while True:
            before = len(self.replies)
            try:
                return self.rewards.score(completions)
            except RewardError as error:
                if not isinstance(error.__cause__, TimeUp) or len(self.replies) == before:
                    raise
                self.console.print("The judge is slow; going on where it was.", highlight=False)


def _number(value: torch.Tensor) -> float | None:
    number = float(value)
    return None if math.isnan(number) else number
