"""A micro-batch: some groups of a step as one batch, and what policy and reference make of it.

Where every forward needs all processes (sharded weights), a process with fewer micro-batches than another runs dummy
ones: they score some group again and add zero times its log-probs.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import torch
from torch import nn

from sightline.forward.features import Features, encode
from sightline.forward.forward import log_probs
from sightline.forward.reference import AnyReference
from sightline.layout import padded, prefix
from sightline.models.families.find import Family
from sightline.training.step.memory import Memory, cut, retry_in_this_process
from sightline.types import Batch, Columns, Group, LogProbs

T = TypeVar("T")
Counts = dict[str, float]
"""The denominator of each part of an objective."""


@dataclass(frozen=True, kw_only=True)
class StepSettings:
    """How a step is computed; none of it changes what is computed.

    autocast: context of every forward. reference_autocast: of the reference's besides.
    no_sync: context of every backward without communication.
    average_gradients: where no backward communicates (DDP), what does so at the end; None where the last one does.
    memory: how finely a step must be cut, and what happens when it runs out.
    sum_over_processes: sums counts over processes. gather: lists an object of every process.
    temperature: of the distribution that log-probs are taken from (that of sampling, where completions are sampled).
    dummy_group: gives the group of dummy micro-batches; None where no forward needs all processes.
    """

    family: Family
    layout: str
    groups_per_forward: int
    device: torch.device
    autocast: Callable[[], AbstractContextManager] = nullcontext
    reference_autocast: Callable[[], AbstractContextManager] = nullcontext
    no_sync: Callable[[], AbstractContextManager] = nullcontext
    average_gradients: Callable[[nn.Module], None] | None = None
    memory: Memory = field(default_factory=Memory)
    sum_over_processes: Callable[[Counts], Counts] = lambda counts: counts
    gather: Callable[[Any], list[Any]] = lambda thing: [thing]
    num_processes: int = 1
    process_index: int = 0
    temperature: float = 1.0
    dummy_group: Callable[[], Group] | None = None

    def of_one_process(self) -> "StepSettings":
        """These settings without the other processes."""
        return StepSettings(
            family=self.family,
            layout=self.layout,
            groups_per_forward=self.groups_per_forward,
            device=self.device,
            autocast=self.autocast,
            temperature=self.temperature,
        )


def cut_step(groups: list[Group], settings: StepSettings, limit: int | None = None) -> list[list[Group]]:
    """The step's groups as micro-batches, of at most `limit` tokens."""
    shared_prefix = settings.layout == "prefix"
    if settings.family.router_coefficient != 0:  # `Family.place` feeds it more tokens, which count here already
        groups = [fed_whole(group) for group in groups]
    return cut(groups, groups_per_forward=settings.groups_per_forward, shared_prefix=shared_prefix, limit=limit)


def fed_whole(group: Group) -> Group:
    """The group and its companions with every token fed, those too that predict no target."""
    return replace(group, fed_whole=True, companions=tuple(map(fed_whole, group.companions)))


@dataclass(frozen=True, kw_only=True)
class MicroBatch:
    """Some groups of a step, then their companions, laid out, with the frozen tower's features of their images."""

    groups: list[Group]
    batch: Batch
    features: Features | None


def micro_batch(model: nn.Module, groups: list[Group], settings: StepSettings) -> MicroBatch:
    """These groups as one batch on the device."""
    placed = [settings.family.place(group) for group in with_companions(groups)]
    lay_out = prefix.lay_out if settings.layout == "prefix" else padded.lay_out
    with settings.autocast():
        features = encode(model, placed)
    return MicroBatch(groups=placed, batch=lay_out(placed).to(settings.device), features=features)


def with_companions(groups: list[Group]) -> list[Group]:
    """The groups, then all their companions in the same order."""
    return [*groups, *(companion for group in groups for companion in group.companions)]


def policy_log_probs(model: nn.Module, micro: MicroBatch, settings: StepSettings) -> LogProbs:
    """The model's log-probs of a micro-batch, with the statistics that metrics read."""
    with settings.autocast():
        return log_probs(
            model,
            micro.batch,
            groups=micro.groups,
            features=micro.features,
            statistics=True,
            temperature=settings.temperature,
        )


def reference_log_probs(reference: AnyReference | None, micro: MicroBatch, settings: StepSettings) -> LogProbs | None:
    """The reference's log-probs of a micro-batch, without gradient; None without a reference."""
    if reference is None:
        return None
    # a frozen copy is not a prepared model, whose own forward brings the autocast with it
    with torch.no_grad(), settings.autocast(), settings.reference_autocast():
        return reference.log_probs(
            micro.batch, groups=micro.groups, features=micro.features, temperature=settings.temperature
        )


def columns_of(groups: list[Group], device: torch.device) -> Columns:
    """What is known of the responses of all of the groups."""
    return Columns.join([group.columns for group in groups]).to(device)


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


def concatenate_references(references: list[LogProbs | None]) -> LogProbs | None:
    """The reference's log-probs of several forwards as if they had been one; None without a reference."""
    present = [part for part in references if part is not None]
    return concatenate(present) if present else None


def score_with_retries(settings: StepSettings, groups: list[Group], score: Callable[[list[list[Group]]], T]) -> T:
    """What `score` makes of the groups as micro-batches, cut finer when it runs out of memory; no collectives."""
    return retry_in_this_process(
        settings.memory,
        lambda limit: cut_step(groups, settings, limit),
        score,
        shared_prefix=settings.layout == "prefix",
    )


@dataclass
class DummyGroup:
    """The group of dummy micro-batches: the smallest seen so far, with an image if there was one.

    first: gives one before any was seen.
    """

    family: Family
    first: Callable[[], Group]
    group: Group | None = field(default=None)

    def see(self, groups: list[Group]) -> None:
        """Take in a step's groups."""
        known = [self.group] if self.group is not None else []
        self.group = min([*known, *groups], key=self._rank, default=None)

    def __call__(self) -> Group:
        if self.group is None:
            self.group = self.first()
        return self.group

    def _rank(self, group: Group) -> tuple[bool, int]:
        """Groups with images first, then by their tokens."""
        return not self.family.has_images(group), group.num_tokens


def num_dummy_micro_batches(num_micro_batches: int, gather: Callable[[Any], list[Any]]) -> int:
    """How many more micro-batches another process has than this one. Every process calls it."""
    return max(gather(num_micro_batches)) - num_micro_batches
