"""Objectives over batch statistics: the step is scored without gradient, differentiated by log-prob, and replayed.

The loss needs the log-probs of all of its rows, of all processes, at once; its gradient then is Σ g·logp with
g = ∂loss/∂logp, which can be had one micro-batch after the other.
"""

from dataclasses import fields, replace
from typing import NamedTuple

import torch
from torch import Tensor

from sightline.objectives.objective import State
from sightline.training.accumulate import Step, part_means, reduce, sit_out
from sightline.training.concatenate import concatenate, concatenate_references
from sightline.training.metrics import Means
from sightline.training.micro_batch import (
    MicroBatch,
    StepSettings,
    extras,
    micro_batch,
    policy_log_probs,
    reference_log_probs,
)
from sightline.training.out_of_memory import random_state, restore_random_state, together
from sightline.training.router_loss import with_router_loss
from sightline.types import Group, LogProbs


class Scored(NamedTuple):
    """A micro-batch scored without gradient. random: state of the random numbers that its forward drew from."""

    micro: MicroBatch
    policy: LogProbs
    reference: LogProbs | None
    random: tuple[Tensor, list[Tensor]]


def score_first(step: Step, pieces: list[list[Group]]) -> list[Scored]:
    scored = []
    sit_out(step, pieces, train=False)
    for piece in pieces:
        micro = micro_batch(step.model, piece, step.settings)
        reference = reference_log_probs(step.reference, micro, step.settings)
        random = random_state()  # dropout draws the same masks when the micro-batch is replayed
        with torch.no_grad():
            scored.append(Scored(micro, policy_log_probs(step.model, micro, step.settings), reference, random))
    return scored


def replayed(step: Step, pieces: list[list[Group]], state: State, means: Means) -> Tensor:
    """A step whose loss needs the whole step at once: score it, differentiate by log-prob, replay Σ g·logp."""
    settings, objective = step.settings, step.objective
    scored = together(settings.memory, lambda: score_first(step, pieces))
    here = concatenate([one.policy for one in scored]) if scored else None
    whole = everywhere(here, settings)
    logp = whole.logp.detach().requires_grad_()
    groups = [group for one in scored for group in one.micro.groups]
    everything = everywhere_extras(extras(groups, settings.device), settings)
    reference_here = concatenate_references([one.reference for one in scored])
    whole_reference = everywhere(reference_here, settings) if step.reference is not None else None
    state.update(objective.update_state(state, whole, whole_reference, everything))
    losses = objective(replace(whole, logp=logp), whole_reference, everything, state)
    loss = reduce(losses, objective.weights, step.counts)
    means.add(part_means(losses, step.counts))
    (gradient,) = torch.autograd.grad(loss, logp)
    # engines average gradients over processes, and every process has the whole loss here
    sizes = settings.gather(len(here.logp) if here is not None else 0)
    mine = gradient.split(sizes)[settings.process_index] * settings.num_processes
    gradients = mine.split([len(one.policy.logp) for one in scored])

    def replay() -> None:
        sit_out(step, pieces, reference=False)
        for index, (one, weights) in enumerate(zip(scored, gradients, strict=True)):
            with step.syncing(last=index == len(scored) - 1):
                restore_random_state(one.random)
                policy = policy_log_probs(step.model, one.micro, settings)
                share = len(pieces[index]) / sum(map(len, pieces))
                step.backward(with_router_loss((weights * policy.logp).sum(), policy, share, means))

    together(settings.memory, replay)
    return loss.detach()


def everywhere(here: LogProbs | None, settings: StepSettings) -> LogProbs:
    """The log-probs of all processes as if one had scored them, in their order; None from one without rows."""
    if settings.num_processes == 1 and here is not None:
        return here
    sent = None
    if here is not None:
        tensors = {f.name: getattr(here, f.name) for f in fields(here) if isinstance(getattr(here, f.name), Tensor)}
        sent = (here.num_groups, {name: tensor.detach().cpu() for name, tensor in tensors.items()})
    received = [one for one in settings.gather(sent) if one is not None]
    device = settings.device
    parts = [LogProbs(num_groups=n, **{name: v.to(device) for name, v in values.items()}) for n, values in received]
    return concatenate(parts)


def everywhere_extras(columns: dict[str, Tensor], settings: StepSettings) -> dict[str, Tensor]:
    """The columns of all processes, in their order."""
    received = [one for one in settings.gather({name: column.cpu() for name, column in columns.items()}) if one]
    names = received[0] if received else {}
    return {name: torch.cat([one[name] for one in received]).to(settings.device) for name in names}
