"""From prompts to completions with rewards, and how many optimizer steps one round of sampling serves."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.generation.sampling import Sampled, SamplingSettings
from sightline.generation.text import CompletionText
from sightline.rewards.completions import Completions, Images
from sightline.rewards.reward_set import RewardSet
from sightline.rollouts.prompts import PromptDataset
from sightline.rollouts.sampler import Sampler
from sightline.types import Columns, Group, Prompt


@dataclass(frozen=True, kw_only=True)
class Rollout:
    """A prompt, its sampled completions, and their rewards.

    values: NaN where a reward does not apply. total: the weighted sum; NaN where no reward applies.
    logged: what rewards logged by `log_extra`, one entry a completion.
    """

    prompt: Prompt
    sampled: list[Sampled]
    texts: list[str]
    values: Float[Tensor, "responses rewards"]
    total: Float[Tensor, " responses"]
    logged: dict[str, list[Any]] = field(default_factory=dict)

    def as_group(self, columns: Columns | None = None) -> Group:
        """The group to train on; its objective reads `columns`."""
        return replace(
            self.prompt.group,
            responses=tuple(one.ids for one in self.sampled),
            weights=tuple(torch.ones(len(one.ids)) for one in self.sampled),
            columns=columns or Columns(),
        )


@dataclass
class Seconds:
    """Where the time of an online step went: prompts, weights to the sampler, completions, rewards, update."""

    wait: float = 0.0
    sync: float = 0.0
    generate: float = 0.0
    reward: float = 0.0
    update: float = 0.0

    def spent(self, name: str, started: float) -> None:
        """Add the time since `started` (of `time.perf_counter`)."""
        setattr(self, name, getattr(self, name) + time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class RolloutCollector:
    """Samples completions to prompts and has the rewards judge them."""

    sampler: Sampler
    rewards: RewardSet
    text_of: CompletionText

    def collect(
        self,
        prompts: Sequence[Prompt],
        num_responses: int,
        settings: SamplingSettings,
        *,
        seed: int,
        seconds: Seconds,
        trainer_state: Any = None,
    ) -> tuple[list[Rollout], dict[str, float]]:
        """Each prompt with `num_responses` completions and their rewards, and the metrics that rewards logged.

        Raises `RewardError` and `SamplerError`.
        """
        if not prompts:
            return [], {}
        started = time.perf_counter()
        sampled = self.sampler.sample(prompts, num_responses, settings, seed)
        seconds.spent("generate", started)
        started = time.perf_counter()
        texts = [
            [self.text_of(one.ids, prompt.text) for one in completions]
            for prompt, completions in zip(prompts, sampled, strict=True)
        ]
        scores = self.rewards.score(as_completions(prompts, sampled, texts), trainer_state)
        seconds.spent("reward", started)
        rollouts = []
        for i, (prompt, completions) in enumerate(zip(prompts, sampled, strict=True)):
            mine = slice(i * num_responses, (i + 1) * num_responses)
            rollouts.append(
                Rollout(
                    prompt=prompt,
                    sampled=completions,
                    texts=texts[i],
                    values=scores.values[mine],
                    total=scores.total[mine],
                    logged={name: list(values[mine]) for name, values in scores.columns.items()},
                )
            )
        return rollouts, scores.metrics


def as_completions(prompts: Sequence[Prompt], sampled: list[list[Sampled]], texts: list[list[str]]) -> Completions:
    """All completions in one list, each with its row's columns, as rewards want them."""
    owners = [prompt for prompt, completions in zip(prompts, sampled, strict=True) for _ in completions]
    names = dict.fromkeys(name for prompt in prompts for name in prompt.row)
    return Completions(
        rows=[prompt.id for prompt in owners],
        prompts=[prompt.as_given for prompt in owners],
        texts=[text for completions in texts for text in completions],
        conversational=[prompt.conversational for prompt in owners],
        token_ids=[one.ids.tolist() for completions in sampled for one in completions],
        images=[Images(prompt.images) for prompt in owners],
        columns={name: [prompt.row.get(name) for prompt in owners] for name in names},
    )


@dataclass
class Reuse:
    """Groups of a round of sampling: split over `steps_per_generation` steps, and gone through `num_iterations` times.

    indices: of the groups' rows in the data set, to read their prompts again. next_step: how many steps used them.
    is_filled: whether there was a round; this process may have no group in it where pairs are made of completions.
    """

    steps_per_generation: int
    num_iterations: int
    groups: list[Group] = field(default_factory=list)
    indices: list[int] = field(default_factory=list)
    next_step: int = 0
    is_filled: bool = False

    @property
    def num_steps(self) -> int:
        """Steps that one round of sampling serves."""
        return self.steps_per_generation * self.num_iterations

    @property
    def is_used_up(self) -> bool:
        return not self.is_filled or self.next_step == self.num_steps

    @property
    def sizes(self) -> list[int]:
        """Groups of each step of one pass through them, as equal as can be."""
        return [end - start for start, end in map(self._cut, range(self.steps_per_generation))]

    def fill(self, groups: list[Group], indices: list[int]) -> None:
        """Start anew with these groups."""
        assert len(groups) == len(indices)
        self.groups, self.indices, self.next_step, self.is_filled = groups, indices, 0, True

    def _cut(self, step: int) -> tuple[int, int]:
        number, parts = len(self.groups), self.steps_per_generation
        return step * number // parts, (step + 1) * number // parts

    def take(self) -> list[Group]:
        """The groups of the next step."""
        assert not self.is_used_up
        start, end = self._cut(self.next_step % self.steps_per_generation)
        self.next_step += 1
        return self.groups[start:end]

    def state(self) -> dict[str, Any]:
        """Everything but the prompts, to go on from."""
        completions = [{"responses": group.responses, "extra": group.columns.known} for group in self.groups]
        return {"indices": self.indices, "next_step": self.next_step, "answers": completions}

    def load_state(self, state: dict[str, Any], prompts: PromptDataset) -> None:
        """Put back what `state` gave, with the prompts from the data set."""
        self.indices, self.next_step, self.is_filled = state["indices"], state["next_step"], True
        self.groups = []
        for index, completion in zip(self.indices, state["answers"], strict=True):
            prompt = prompts[index]
            assert isinstance(prompt, Prompt)
            weights = tuple(torch.ones(len(response)) for response in completion["responses"])
            columns = Columns(**completion["extra"])
            self.groups.append(
                replace(prompt.group, responses=completion["responses"], weights=weights, columns=columns)
            )
