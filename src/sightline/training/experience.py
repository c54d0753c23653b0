"""From prompts to judged answers: what happens in an online step before the offline step."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.rewards.answers import Answers
from sightline.rewards.panel import Panel
from sightline.rewards.pictures import Pictures
from sightline.rollouts.sampler import Sampled, Sampler, SamplingSettings
from sightline.types import Group

NOT_COLUMNS = ("prompt", "messages", "turns", "text", "images", "index", "place")
"""What `PromptDataset` adds to a row's columns."""


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A prompt, its sampled answers, and what the rewards made of them.

    values: NaN where a reward does not apply. total: the weighted sum; NaN where no reward applies.
    logged: what rewards logged by `log_extra`, one entry an answer.
    """

    prompt: Group
    sampled: list[Sampled]
    texts: list[str]
    values: Float[Tensor, "responses rewards"]
    total: Float[Tensor, " responses"]
    logged: dict[str, list[Any]] = field(default_factory=dict)

    def as_group(self, **columns: Tensor) -> Group:
        """The group to train on; `columns` are what its objective reads."""
        return replace(
            self.prompt,
            responses=tuple(one.ids for one in self.sampled),
            weights=tuple(torch.ones(len(one.ids)) for one in self.sampled),
            extra=dict(columns),
        )


@dataclass
class Seconds:
    """Where the time of an online step went: waiting for prompts, weights to the sampler, answers, rewards, update."""

    wait: float = 0.0
    sync: float = 0.0
    generate: float = 0.0
    reward: float = 0.0
    update: float = 0.0

    def spent(self, name: str, started: float) -> None:
        """Add the time since `started` (of `time.perf_counter`)."""
        setattr(self, name, getattr(self, name) + time.perf_counter() - started)


@dataclass(frozen=True, kw_only=True)
class Asker:
    """Samples answers to prompts and has them judged."""

    sampler: Sampler
    panel: Panel
    tokenizer: Any

    def ask(
        self,
        prompts: Sequence[Group],
        num_responses: int,
        settings: SamplingSettings,
        *,
        seed: int,
        seconds: Seconds,
        trainer_state: Any = None,
    ) -> tuple[list[Judged], dict[str, float]]:
        """Each prompt with `num_responses` judged answers, and the metrics that rewards logged.

        Raises `RewardError` and `SamplerError`.
        """
        if not prompts:
            return [], {}
        started = time.perf_counter()
        sampled = self.sampler.sample(prompts, num_responses, settings, seed)
        seconds.spent("generate", started)
        started = time.perf_counter()
        texts = [[self.tokenizer.decode(one.ids, skip_special_tokens=True) for one in answers] for answers in sampled]
        scores = self.panel.score(as_answers(prompts, sampled, texts), trainer_state)
        seconds.spent("reward", started)
        judged = []
        for i, (prompt, answers) in enumerate(zip(prompts, sampled, strict=True)):
            mine = slice(i * num_responses, (i + 1) * num_responses)
            judged.append(
                Judged(
                    prompt=prompt,
                    sampled=answers,
                    texts=texts[i],
                    values=scores.values[mine],
                    total=scores.total[mine],
                    logged={name: list(values[mine]) for name, values in scores.columns.items()},
                )
            )
        return judged, scores.metrics


def as_answers(prompts: Sequence[Group], sampled: list[list[Sampled]], texts: list[list[str]]) -> Answers:
    """All answers in one list, each with its row's columns, as rewards want them."""
    owners = [prompt for prompt, answers in zip(prompts, sampled, strict=True) for _ in answers]
    names = dict.fromkeys(name for prompt in prompts for name in prompt.extra if name not in NOT_COLUMNS)
    columns = {name: [prompt.extra.get(name) for prompt in owners] for name in names}
    return Answers(
        rows=[prompt.id for prompt in owners],
        prompts=[prompt.extra["prompt"] for prompt in owners],
        texts=[text for answers in texts for text in answers],
        conversational=[prompt.extra["messages"] for prompt in owners],
        token_ids=[one.ids.tolist() for answers in sampled for one in answers],
        columns={**columns, "images": [Pictures(prompt.extra["images"]) for prompt in owners]},
    )
