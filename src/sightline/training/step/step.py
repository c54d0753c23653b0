"""One optimizer step, top to bottom: cut into micro-batches; forward, objective and backward of each.

The step is the unit: denominators are those of the whole step over all processes, so that neither the cut into
micro-batches nor the number of processes changes the gradient. A full-batch loss (objectives with `full_batch`, over
batch statistics) needs the log-probs of all rows of all processes at once, in two passes: the step is scored without
gradient, the loss is differentiated by log-prob, g = ∂loss/∂logp, and Σ g·logp is replayed micro-batch by micro-batch.

A mixture of experts adds its load-balancing loss: the mean over micro-batches, weighted by their groups, as in TRL with
accumulation; it is not linear in tokens, so that it (and nothing else) depends on how a step is cut.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields, replace
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sightline.forward.forward import reached_by_images
from sightline.forward.reference import AnyReference
from sightline.objectives.objective import Objective, State
from sightline.training.random_states import random_states, set_random_states
from sightline.training.step.memory import (
    raising_everywhere,
    retry_with_smaller_micro_batches,
)
from sightline.training.step.metrics import Means
from sightline.training.step.micro_batch import (
    Counts,
    MicroBatch,
    StepSettings,
    columns_of,
    concatenate,
    concatenate_references,
    cut_step,
    micro_batch,
    num_dummy_micro_batches,
    policy_log_probs,
    reference_log_probs,
    with_companions,
)
from sightline.types import Columns, Group, LogProbs, Loss


def train_step(
    model: nn.Module,
    groups: list[Group],
    objective: Objective,
    reference: AnyReference | None,
    settings: StepSettings,
    *,
    state: State,
    backward: Callable[[Tensor], None],
    means: Means,
) -> Tensor:
    """Accumulate the gradient of the step's loss in the weights; returns this process's part of the loss, detached.

    groups: this process's. state: the objective's (BCO's shift), changed in place. backward: called once per
    micro-batch; the loss is scaled by the number of processes, since engines average gradients over them. means: gets
    the metrics. A step that runs out of memory is cut finer and done again; raises `OutOfMemory` where a single group
    is too large.
    """
    counts = settings.sum_over_processes(counts_of(objective, groups))
    step = Step(model, objective, reference, settings, counts, backward)
    before = dict(state)

    def attempt(micro_batches: list[list[Group]]) -> tuple[Tensor, Means]:
        found = Means()
        if objective.full_batch:
            return full_batch_gradient(step, micro_batches, state, found), found
        return raising_everywhere(settings.memory, lambda: accumulate_gradient(step, micro_batches, found)), found

    def undo() -> None:
        model.zero_grad(set_to_none=True)
        state.clear()
        state.update(before)

    loss, found = retry_with_smaller_micro_batches(
        settings.memory,
        lambda limit: cut_step(groups, settings, limit),
        attempt,
        undo=undo,
        shared_prefix=settings.layout == "prefix",
    )
    if settings.average_gradients is not None:
        settings.average_gradients(model)
    if settings.dummy_group is not None:
        _forget_images(groups, settings)
    means.take(found)
    return loss


class Step(NamedTuple):
    """What the parts of a step share. counts: denominators of the whole step over all processes."""

    model: nn.Module
    objective: Objective
    reference: AnyReference | None
    settings: StepSettings
    counts: Counts
    backward: Callable[[Tensor], None]

    def syncing(self, *, last: bool) -> AbstractContextManager:
        """Context of a backward: the last one communicates where nothing else does."""
        return nullcontext() if last and self.settings.average_gradients is None else self.settings.no_sync()


def accumulate_gradient(step: Step, micro_batches: list[list[Group]], means: Means) -> Tensor:
    """Forward, objective and backward of every micro-batch; the loss of all of them, detached."""
    model, objective, reference, settings, counts, backward = step
    total = torch.zeros((), device=settings.device)
    run_dummy_micro_batches(step, micro_batches)
    for index, groups in enumerate(micro_batches):
        micro = micro_batch(model, groups, settings)
        # the reference goes first: its activations are gone before the policy's graph is built
        reference_logp = reference_log_probs(reference, micro, settings)
        with step.syncing(last=index == len(micro_batches) - 1):
            policy = policy_log_probs(model, micro, settings)
            losses = objective(policy, reference_logp, columns_of(micro.groups, settings.device))
            loss = reduce(losses, objective.weights, counts) * settings.num_processes
            backward(with_router_loss(loss, policy, len(groups) / sum(map(len, micro_batches)), means))
        means.add(part_means(losses, counts_of(objective, groups)))
        total = total + loss.detach()
    return total


def full_batch_gradient(step: Step, micro_batches: list[list[Group]], state: State, means: Means) -> Tensor:
    """The gradient of a loss that needs the whole step at once, in two passes; the loss, detached.

    First all rows of all processes are scored without gradient; then Σ g·logp, g = ∂loss/∂logp, is replayed.
    """
    settings, objective = step.settings, step.objective
    scored = raising_everywhere(settings.memory, lambda: score_without_gradient(step, micro_batches))
    here = concatenate([one.policy for one in scored]) if scored else None
    whole = gather_log_probs(here, settings)
    logp = whole.logp.detach().requires_grad_()
    groups = [group for one in scored for group in one.micro.groups]
    columns = gather_columns(columns_of(groups, settings.device) if groups else None, settings)
    reference_here = concatenate_references([one.reference for one in scored])
    whole_reference = gather_log_probs(reference_here, settings) if step.reference is not None else None
    state.update(objective.update_state(state, whole, whole_reference, columns))
    losses = objective(replace(whole, logp=logp), whole_reference, columns, state)
    loss = reduce(losses, objective.weights, step.counts)
    means.add(part_means(losses, step.counts))
    (gradient,) = torch.autograd.grad(loss, logp)
    # engines average gradients over processes, and every process has the whole loss here
    sizes = settings.gather(len(here.logp) if here is not None else 0)
    mine = gradient.split(sizes)[settings.process_index] * settings.num_processes
    gradients = mine.split([len(one.policy.logp) for one in scored])

    def replay() -> None:
        run_dummy_micro_batches(step, micro_batches, reference=False)
        for index, (one, weights) in enumerate(zip(scored, gradients, strict=True)):
            with step.syncing(last=index == len(scored) - 1):
                set_random_states(one.random)
                policy = policy_log_probs(step.model, one.micro, settings)
                share = len(micro_batches[index]) / sum(map(len, micro_batches))
                step.backward(with_router_loss((weights * policy.logp).sum(), policy, share, means))

    raising_everywhere(settings.memory, replay)
    return loss.detach()


class Scored(NamedTuple):
    """A micro-batch scored without gradient. random: state of the random numbers that its forward drew from."""

    micro: MicroBatch
    policy: LogProbs
    reference: LogProbs | None
    random: dict[str, Any]


def score_without_gradient(step: Step, micro_batches: list[list[Group]]) -> list[Scored]:
    """Log-probs of every micro-batch by policy and reference: the first pass of a full-batch loss."""
    scored = []
    run_dummy_micro_batches(step, micro_batches, train=False)
    for groups in micro_batches:
        micro = micro_batch(step.model, groups, step.settings)
        reference = reference_log_probs(step.reference, micro, step.settings)
        random = random_states()  # dropout draws the same masks when the micro-batch is replayed
        with torch.no_grad():
            scored.append(Scored(micro, policy_log_probs(step.model, micro, step.settings), reference, random))
    return scored


def run_dummy_micro_batches(
    step: Step, micro_batches: list[list[Group]], *, reference: bool = True, train: bool = True
) -> None:
    """Where every forward needs all processes: as many dummy micro-batches as another process has more than this one.

    They add zero to the gradient. reference, train: whether each has a forward of the reference, and a backward.
    """
    settings = step.settings
    if settings.dummy_group is None:
        return
    number = num_dummy_micro_batches(len(micro_batches), settings.gather)
    for index in range(number):
        micro = micro_batch(step.model, [settings.dummy_group()], settings)
        if reference:
            reference_log_probs(step.reference, micro, settings)
        with step.syncing(last=index == number - 1 and not micro_batches), torch.set_grad_enabled(train):
            found = policy_log_probs(step.model, micro, settings)
            if train:
                step.backward(0.0 * found.logp.sum())


def counts_of(objective: Objective, groups: list[Group]) -> Counts:
    """The denominator of each part of an objective over these groups and their companions."""
    return {name: float(number) for name, number in objective.counts(with_companions(groups)).items()}


def reduce(losses: dict[str, Loss], weights: dict[str, float], counts: Counts) -> Tensor:
    """Σ over parts of weight · sum / denominator."""
    terms = [weights[name] * loss.value / max(counts[name], 1.0) for name, loss in losses.items()]
    return torch.stack(terms).sum()


def with_router_loss(loss: Tensor, policy: LogProbs, share: float, means: Means) -> Tensor:
    """The loss and the load-balancing loss of a mixture of experts; the loss alone for other models.

    share: of the step's groups in this micro-batch. The logged loss is the objective's alone, `aux_loss` is the rest.
    """
    if policy.router_loss is None:
        return loss
    means.add({"aux_loss": (policy.router_loss.detach() * share, share)})
    return loss + policy.router_loss * share


def part_means(losses: dict[str, Loss], counts: Counts) -> dict[str, tuple[Tensor | float, Tensor | float]]:
    """The objective's own metrics, and each part's loss as `loss/<part>`, as (sum, count)."""
    metrics: dict[str, tuple[Tensor | float, Tensor | float]] = {}
    for name, loss in losses.items():
        metrics |= loss.metrics
        metrics[f"loss/{name}"] = (loss.value.detach(), counts[name])
    return metrics


def gather_log_probs(here: LogProbs | None, settings: StepSettings) -> LogProbs:
    """The log-probs of all processes as if one had scored them, in their order; None from a process without rows."""
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


def gather_columns(here: Columns | None, settings: StepSettings) -> Columns:
    """The columns of all processes, in their order; None from a process without rows."""
    received = settings.gather(None if here is None else here.to(torch.device("cpu")))
    return Columns.join([one for one in received if one is not None]).to(settings.device)


def _forget_images(groups: list[Group], settings: StepSettings) -> None:
    """Take back the gradient of zero that FSDP2 wants of a trained tower, where no process had an image.

    The optimizer then passes over it, as in one process; by momentum it would move.
    """
    here = any(settings.family.has_images(group) for group in with_companions(groups))
    if settings.sum_over_processes({"images": float(here)})["images"] == 0:
        for weight in reached_by_images(settings.family):
            weight.grad = None
