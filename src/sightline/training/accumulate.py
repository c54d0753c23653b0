"""Forward, objective and backward, one micro-batch after the other, and how their losses add up to the step's."""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sightline.objectives.objective import Objective
from sightline.policy.reference import AnyReference
from sightline.training.idle_turns import num_idle
from sightline.training.metrics import Means
from sightline.training.micro_batch import (
    Counts,
    StepSettings,
    extras,
    micro_batch,
    policy_log_probs,
    reference_log_probs,
    with_companions,
)
from sightline.training.router_loss import with_router_loss
from sightline.types import Group, Loss


class Step(NamedTuple):
    """What a step is made with."""

    model: nn.Module
    objective: Objective
    reference: AnyReference | None
    settings: StepSettings
    counts: Counts
    backward: Callable[[Tensor], None]

    def syncing(self, *, last: bool) -> AbstractContextManager:
        """Context of a backward: the last one communicates where nothing else does."""
        return nullcontext() if last and self.settings.average_gradients is None else self.settings.no_sync()


def accumulate(step: Step, pieces: list[list[Group]], means: Means) -> Tensor:
    """Forward, objective and backward of every micro-batch."""
    model, objective, reference, settings, counts, backward = step
    total = torch.zeros((), device=settings.device)
    sit_out(step, pieces)
    for index, piece in enumerate(pieces):
        micro = micro_batch(model, piece, settings)
        # the reference goes first: its activations are gone before the policy's graph is built
        reference_logp = reference_log_probs(reference, micro, settings)
        with step.syncing(last=index == len(pieces) - 1):
            policy = policy_log_probs(model, micro, settings)
            losses = objective(policy, reference_logp, extras(micro.groups, settings.device))
            loss = reduce(losses, objective.weights, counts) * settings.num_processes
            backward(with_router_loss(loss, policy, len(piece) / sum(map(len, pieces)), means))
        means.add(part_means(losses, counts_of(objective, piece)))
        total = total + loss.detach()
    return total


def sit_out(step: Step, pieces: list[list[Group]], *, reference: bool = True, train: bool = True) -> None:
    """As many turns as the process with the most micro-batches has more than this one; they add nothing.

    reference, train: whether a turn has a forward of the reference, and a backward.
    """
    settings = step.settings
    if settings.spare is None:
        return
    idle = num_idle(len(pieces), settings.gather)
    for index in range(idle):
        micro = micro_batch(step.model, [settings.spare()], settings)
        if reference:
            reference_log_probs(step.reference, micro, settings)
        with step.syncing(last=index == idle - 1 and not pieces), torch.set_grad_enabled(train):
            found = policy_log_probs(step.model, micro, settings)
            if train:
                step.backward(0.0 * found.logp.sum())


def counts_of(objective: Objective, groups: list[Group]) -> Counts:
    """What each part's sum over these groups is divided by."""
    return {name: float(number) for name, number in objective.counts(with_companions(groups)).items()}


def reduce(losses: dict[str, Loss], weights: dict[str, float], counts: Counts) -> Tensor:
    """Σ over parts of weight · sum / global count."""
    terms = [weights[name] * loss.value / max(counts[name], 1.0) for name, loss in losses.items()]
    return torch.stack(terms).sum()


def part_means(losses: dict[str, Loss], counts: Counts) -> dict[str, tuple[Tensor | float, Tensor | float]]:
    """The objective's own metrics, and each part's loss as `loss/<part>`, as (sum, count)."""
    metrics: dict[str, tuple[Tensor | float, Tensor | float]] = {}
    for name, loss in losses.items():
        metrics |= loss.metrics
        metrics[f"loss/{name}"] = (loss.value.detach(), counts[name])
    return metrics
