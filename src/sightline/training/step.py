"""One optimizer step: cut, forward, objective, backward.

The step is the unit: denominators are those of the whole step over all processes, so that neither the cut into
micro-batches nor the number of processes changes the gradient. Objectives over batch statistics (`whole_step`) first
score the whole step without gradient, are differentiated by log-prob, and are then replayed as Σ g·logp.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn

from sightline.layout import padded, prefix
from sightline.objectives.objective import Objective, State
from sightline.policy.families import Family
from sightline.policy.features import Features, encode
from sightline.policy.forward import log_probs
from sightline.policy.reference import Reference
from sightline.training.cut import cut
from sightline.training.metrics import Means
from sightline.types import Batch, Group, LogProbs, Loss

Counts = dict[str, float]
"""What each part of an objective is divided by, over the whole step and all processes."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a step is computed; none of it changes what is computed.

    autocast: context of every forward. no_sync: context of every backward but the last (DDP).
    sum_over_processes: sums counts over ranks. gather: lists an object of every rank.
    """

    family: Family
    layout: str
    groups_per_forward: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager] = nullcontext
    no_sync: Callable[[], AbstractContextManager] = nullcontext
    sum_over_processes: Callable[[Counts], Counts] = lambda counts: counts
    num_processes: int = 1


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Some groups of a step, laid out, with what the frozen tower makes of their pictures."""

    groups: list[Group]
    batch: Batch
    features: Features | None


def cut_step(groups: list[Group], settings: StepSettings) -> list[list[Group]]:
    """The step's groups as micro-batches."""
    return cut(groups, groups_per_forward=settings.groups_per_forward, shared_prefix=settings.layout == "prefix")


def micro_batch(model: nn.Module, groups: list[Group], settings: StepSettings) -> MicroBatch:
    """These groups as one batch on the device."""
    placed = [settings.family.place(group) for group in groups]
    lay_out = prefix.lay_out if settings.layout == "prefix" else padded.lay_out
    with settings.autocast():
        features = encode(model, placed)
    return MicroBatch(groups=placed, batch=lay_out(placed).to(settings.device), features=features)


def train_step(
    model: nn.Module,
    groups: list[Group],
    objective: Objective,
    reference: Reference | None,
    settings: StepSettings,
    *,
    state: State,
    backward: Callable[[Tensor], None],
    means: Means,
) -> Tensor:
    """Accumulate the gradient of the step's loss in the parameters; returns this process's part of the loss, detached.

    `backward` is called once a micro-batch. `state` is the objective's (BCO's shift), changed in place. The loss is
    scaled by the number of processes, since engines average gradients over them. Metrics go to `means`.
    """
    counts = settings.sum_over_processes(as_floats(objective.counts(groups)))
    pieces = cut_step(groups, settings)
    if objective.whole_step:
        return _replay(
            model, pieces, objective, reference, settings, counts, state=state, backward=backward, means=means
        )
    total = torch.zeros((), device=settings.device)
    for index, piece in enumerate(pieces):
        micro = micro_batch(model, piece, settings)
        # the reference goes first: its activations are gone before the policy's graph is built
        reference_log_probs = _reference_log_probs(reference, micro, settings)
        with nullcontext() if index == len(pieces) - 1 else settings.no_sync():
            policy = _policy_log_probs(model, micro, settings)
            losses = objective(policy, reference_log_probs, extras(micro.groups, settings.device))
            loss = reduce(losses, objective.weights, counts) * settings.num_processes
            backward(loss)
        means.add(part_means(losses, as_floats(objective.counts(micro.groups))))
        total = total + loss.detach()
    return total


@torch.no_grad()
def score_step(
    model: nn.Module,
    groups: list[Group],
    objective: Objective,
    reference: Reference | None,
    settings: StepSettings,
    *,
    state: State,
    means: Means,
) -> None:
    """Loss and metrics of held-out groups as sums and counts in `means`; nothing is trained."""
    micros = [micro_batch(model, piece, settings) for piece in cut_step(groups, settings)]
    policies = [_policy_log_probs(model, micro, settings) for micro in micros]
    references = [_reference_log_probs(reference, micro, settings) for micro in micros]
    pieces = [micro.groups for micro in micros]
    if objective.whole_step:
        policies, references = [concatenate(policies)], [_concatenate_references(references)]
        pieces = [[group for piece in pieces for group in piece]]
    for policy, ref, piece in zip(policies, references, pieces, strict=True):
        losses = objective(policy, ref, extras(piece, settings.device), state)
        means.add(part_means(losses, as_floats(objective.counts(piece))))


def as_floats(counts: dict[str, int]) -> Counts:
    """Counts as numbers that can be summed over processes."""
    return {name: float(number) for name, number in counts.items()}


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


def extras(groups: list[Group], device: torch.device) -> dict[str, Tensor]:
    """Columns by response that objectives read, such as `label` and `advantage`, over all responses of the groups."""
    columns: dict[str, list[Tensor]] = {}
    for group in groups:
        for name, value in group.extra.items():
            if isinstance(value, Tensor):
                columns.setdefault(name, []).append(value)
    return {name: torch.cat(values).to(device) for name, values in columns.items()}


def concatenate(parts: list[LogProbs]) -> LogProbs:
    """The log-probs of several forwards as if they had been one."""
    responses = groups = 0
    moved = []
    for part in parts:
        moved.append(replace(part, response=part.response + responses, response_group=part.response_group + groups))
        responses += part.num_responses
        groups += part.num_groups
    optional = {
        name: torch.cat([getattr(part, name) for part in moved])
        for name in ("entropy", "top1", "mean_logit", "log_sum_sq")
        if getattr(parts[0], name) is not None
    }
    needed = {
        name: torch.cat([getattr(p, name) for p in moved]) for name in ("logp", "weight", "response", "response_group")
    }
    return LogProbs(num_groups=groups, **needed, **optional)


def _policy_log_probs(model: nn.Module, piece: MicroBatch, settings: StepSettings) -> LogProbs:
    with settings.autocast():
        return log_probs(model, piece.batch, groups=piece.groups, features=piece.features, statistics=True)


def _reference_log_probs(reference: Reference | None, piece: MicroBatch, settings: StepSettings) -> LogProbs | None:
    if reference is None:
        return None
    with torch.no_grad(), settings.autocast():
        return reference.log_probs(piece.batch, groups=piece.groups, features=piece.features)


def _replay(
    model: nn.Module,
    pieces: list[list[Group]],
    objective: Objective,
    reference: Reference | None,
    settings: StepSettings,
    counts: Counts,
    *,
    state: State,
    backward: Callable[[Tensor], None],
    means: Means,
) -> Tensor:
    """A step whose loss needs the whole step at once: score it, differentiate by log-prob, replay Σ g·logp."""
    assert settings.num_processes == 1, "whole-step objectives over several processes gather first"
    micros = [micro_batch(model, piece, settings) for piece in pieces]
    references = [_reference_log_probs(reference, micro, settings) for micro in micros]
    states = []
    scored = []
    for micro in micros:
        states.append(torch.get_rng_state())  # dropout draws the same masks when the micro-batch is replayed
        with torch.no_grad():
            scored.append(_policy_log_probs(model, micro, settings))
    whole = concatenate(scored)
    logp = whole.logp.detach().requires_grad_()
    everything = extras([group for micro in micros for group in micro.groups], settings.device)
    whole_reference = _concatenate_references(references)
    state.update(objective.update_state(state, whole, whole_reference, everything))
    losses = objective(replace(whole, logp=logp), whole_reference, everything, state)
    loss = reduce(losses, objective.weights, counts)
    means.add(part_means(losses, counts))
    (gradient,) = torch.autograd.grad(loss, logp)
    gradients = gradient.split([len(part.logp) for part in scored])
    for index, (micro, weights) in enumerate(zip(micros, gradients, strict=True)):
        with nullcontext() if index == len(micros) - 1 else settings.no_sync():
            torch.set_rng_state(states[index])
            backward((weights * _policy_log_probs(model, micro, settings).logp).sum())
    return loss.detach()


def _concatenate_references(references: list[LogProbs | None]) -> LogProbs | None:
    present = [part for part in references if part is not None]
    return concatenate(present) if present else None
