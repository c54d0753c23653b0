"""Loss and metrics of held-out rows as sums and counts, divided once at the end.

An objective over batch statistics (sorted log-ratios, KTO's KL estimate) has those of all held-out rows of all
processes at once, so that no batch size or number of processes changes its figures.
"""

from typing import NamedTuple

import torch
from torch import nn

from sightline.errors import DataError
from sightline.forward.reference import AnyReference
from sightline.objectives.objective import Objective, State
from sightline.training.step.metrics import Means, averages
from sightline.training.step.micro_batch import (
    Counts,
    StepSettings,
    columns_of,
    concatenate,
    concatenate_references,
    micro_batch,
    policy_log_probs,
    reference_log_probs,
    score_with_retries,
)
from sightline.training.step.step import counts_of, gather_columns, gather_log_probs, part_means
from sightline.types import Columns, Group, LogProbs


class Scored(NamedTuple):
    """A micro-batch's log-probs, columns, and what each part of the objective is divided by."""

    policy: LogProbs
    reference: LogProbs | None
    columns: Columns
    counts: Counts


class HeldOut:
    """Scores groups as they come. state: the objective's, read and not changed."""

    def __init__(self, objective: Objective, settings: StepSettings, state: State) -> None:
        self.objective, self.settings, self.state = objective, settings, state
        self.means = Means()
        self.num_groups = 0
        self.scored: list[Scored] = []

    @torch.no_grad()
    def add(self, model: nn.Module, groups: list[Group], reference: AnyReference | None) -> None:
        """Score a batch of groups with their auxiliary responses; nothing is trained."""
        self.num_groups += len(groups)
        for one in score_with_retries(
            self.settings, groups, lambda micro_batches: self._score(model, micro_batches, reference)
        ):
            if self.objective.full_batch:
                self.scored.append(one)
            else:
                losses = self.objective(one.policy, one.reference, one.columns, self.state)
                self.means.add(part_means(losses, one.counts))

    @torch.no_grad()
    def figures(self) -> dict[str, float]:
        """Averages over all processes by name, `loss` among them. Every process has to call.

        Raises `DataError` where not one held-out row could be scored.
        """
        if not sum(self.settings.gather(self.num_groups)):
            raise DataError("All held-out rows are bad: nothing can be evaluated. Run `sightline data check` on them.")
        totals = [self._judge_all()] if self.objective.full_batch else self.settings.gather(self.means.totals())
        figures = averages(totals)
        weights = self.objective.weights
        figures["loss"] = sum(weights[name] * figures[f"loss/{name}"] for name in weights)
        if len(weights) == 1:
            figures = {name: value for name, value in figures.items() if not name.startswith("loss/")}
        return figures

    def _score(
        self, model: nn.Module, micro_batches: list[list[Group]], reference: AnyReference | None
    ) -> list[Scored]:
        found = []
        for groups in micro_batches:
            micro = micro_batch(model, groups, self.settings)
            found.append(
                Scored(
                    policy=policy_log_probs(model, micro, self.settings),
                    reference=reference_log_probs(reference, micro, self.settings),
                    columns=columns_of(micro.groups, self.settings.device),
                    counts=counts_of(self.objective, groups),
                )
            )
        return found

    def _judge_all(self) -> dict[str, tuple[float, float]]:
        """Sums and counts over the rows of all processes, the same in each."""
        settings, names = self.settings, self.objective.weights
        counts = settings.sum_over_processes({name: sum(one.counts[name] for one in self.scored) for name in names})
        # a process may have no held-out row
        columns = Columns.join([one.columns for one in self.scored]) if self.scored else None
        policy = gather_log_probs(concatenate([one.policy for one in self.scored]) if self.scored else None, settings)
        reference_here = concatenate_references([one.reference for one in self.scored])
        has_reference = any(settings.gather(reference_here is not None))
        reference = gather_log_probs(reference_here, settings) if has_reference else None
        losses = self.objective(policy, reference, gather_columns(columns, settings), self.state)
        means = Means()
        means.add(part_means(losses, counts))
        return means.totals()
