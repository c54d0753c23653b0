"""Online preference optimization: each step samples, judges, pairs the best with the worst, and takes the offline step
of any pair objective on them (online DPO, arXiv:2402.04792, with rewards in place of an annotator).

A pair is two responses on their shared prompt, as if it had been read from a data set; its log-probs are those of the
policy itself, at temperature 1 whatever the sampling temperature is. Prompts whose completions differ too little give
no pair; a step is over those that do.
"""

import math
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from sightline.config.pairs import JudgedPairsConfig
from sightline.errors import RunFailed
from sightline.scoring.pair_choice import Choice, choose_pairs
from sightline.training.online.off_policy import stale
from sightline.training.online.rollouts import Rollout, Seconds
from sightline.training.online.trainer import OnlineTrainer
from sightline.training.step.scoring import score_by_policy
from sightline.types import Group

EMPTY_ROUNDS = 20
"""Rounds of sampling without enough pairs for every step after which the run ends."""


class OnlinePairTrainer(OnlineTrainer):
    """Trains a policy on pairs of its own completions. pairs: how they are chosen."""

    def __init__(self, *, pairs: JudgedPairsConfig, **options: Any) -> None:
        super().__init__(**options)
        self.pairs = pairs
        self.settings = replace(self.settings, temperature=1.0)

    def _new_round(self, model: nn.Module, seconds: Seconds) -> None:
        """Rounds of sampling until every step that one serves has a pair in some process.

        Raises `RunFailed` where completions differ in nothing that is rewarded, round after round.
        """
        for _ in range(EMPTY_ROUNDS):
            super()._new_round(model, seconds)
            everywhere = [sum(sizes) for sizes in zip(*self.settings.gather(self.reuse.sizes), strict=True)]
            if all(everywhere):
                return
        raise RunFailed(
            f"{EMPTY_ROUNDS} rounds of sampling gave no pair: the completions of each prompt have the same reward"
            f"{f', or differ by less than `pairs.margin: {self.pairs.margin:g}`' if self.pairs.margin else ''}"
            f"{'' if self.pairs.keep_truncated else ', or are cut off at `sampler.max_completion_length`'}. Take more "
            "completions, a higher `sampler.temperature`, or rewards that tell completions apart."
        )

    def _groups(self, model: nn.Module, rollouts: list[Rollout]) -> tuple[list[Group], list[int]]:
        """Pairs as groups of two responses, chosen and rejected, and the rows that their prompts came from."""
        if not self.collector.sampler.exact:
            settings = replace(self.settings, temperature=self.sampling.temperature)
            old = score_by_policy(model, [each.as_group() for each in rollouts], settings)
            self._stop_if_any(stale(rollouts, old, self.sampling))
        chosen = [self._choices(each) for each in rollouts]
        found = [(each, choice) for each, some in zip(rollouts, chosen, strict=True) for choice in some]
        self._log_pairs(found, len(rollouts))
        self._write_completions(rollouts, [_marks(*one) for one in zip(rollouts, chosen, strict=True)])
        groups = [each.as_group().keep([choice.chosen, choice.rejected]) for each, choice in found]
        return groups, [each.prompt.index for each, _ in found]

    def _without_signal(self, answered: list[Rollout]) -> list[bool]:
        """Which of these prompts give no pair."""
        return [not self._choices(each) for each in answered]

    def _choices(self, rollout: Rollout) -> list[Choice]:
        """The pairs of one prompt; cut-off completions are in none unless the recipe keeps them."""
        usable = [self.pairs.keep_truncated or one.finished for one in rollout.sampled]
        totals = zip(rollout.total.tolist(), usable, strict=True)
        scores = [score if is_usable else math.nan for score, is_usable in totals]
        found = choose_pairs(scores, margin=self.pairs.margin, max_pairs=self.pairs.max_pairs)
        return [one for one in found if rollout.texts[one.chosen] != rollout.texts[one.rejected]]

    def _log_pairs(self, found: list[tuple[Rollout, Choice]], num_prompts: int) -> None:
        figures = {"pairs/number": (float(len(found)), 1.0)}
        with_pair = len({id(each) for each, _ in found})
        figures["pairs/frac_prompts"] = (float(with_pair), float(num_prompts))
        if found:
            count = float(len(found))
            sides = [(each.sampled[one.chosen].ids, each.sampled[one.rejected].ids) for each, one in found]
            figures["pairs/margin"] = (sum(one.margin for _, one in found), count)
            figures["pairs/chosen_longer"] = (float(sum(len(chosen) > len(other) for chosen, other in sides)), count)
        self.means.add(figures)


def _marks(rollout: Rollout, choices: list[Choice]) -> Tensor:
    """1 for a chosen completion, −1 for a rejected one, 0 for the others."""
    marks = torch.zeros(len(rollout.sampled))
    for one in choices:
        marks[one.chosen], marks[one.rejected] = 1.0, -1.0
    return marks
