"""Log-probs of sampled completions by the weights that sampled them, before an update moves those."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor, nn

from sightline.forward.forward import log_probs
from sightline.forward.reference import AnyReference
from sightline.models.unwrap import in_eval_mode
from sightline.training.step.micro_batch import MicroBatch, StepSettings, micro_batch, score_with_retries
from sightline.types import Group, LogProbs


@dataclass(frozen=True, kw_only=True)
class Scored:
    """What the trainer's own models give for a group's completions: log π_old, and log π/π_ref of each completion."""

    old: LogProbs | None = None
    log_ratio_to_reference: Tensor | None = None


def score_before_update(
    model: nn.Module, groups: list[Group], settings: StepSettings, reference: AnyReference | None
) -> list[Scored]:
    """log π_old and log π/π_ref of each group's completions; without a reference log π_old alone."""
    old = score_by_policy(model, groups, settings)
    if reference is None:
        return [Scored(old=one) for one in old]
    compared = score_by_reference(model, groups, settings, reference)
    ratios = [completion_log_ratio(*pair) for pair in zip(old, compared, strict=True)]
    return [Scored(old=one, log_ratio_to_reference=ratio) for one, ratio in zip(old, ratios, strict=True)]


def score_by_policy(model: nn.Module, groups: list[Group], settings: StepSettings) -> list[LogProbs]:
    """log π_old of each group's completions, in evaluation mode as when they were sampled."""

    def score(micro: MicroBatch) -> LogProbs:
        with in_eval_mode(model):
            return log_probs(
                model, micro.batch, groups=micro.groups, features=micro.features, temperature=settings.temperature
            )

    return _score(model, groups, settings, score)


def score_by_reference(
    model: nn.Module, groups: list[Group], settings: StepSettings, reference: AnyReference
) -> list[LogProbs]:
    """log π_ref of each group's completions."""

    def score(micro: MicroBatch) -> LogProbs:
        return reference.log_probs(
            micro.batch, groups=micro.groups, features=micro.features, temperature=settings.temperature
        )

    return _score(model, groups, settings, score)


@torch.no_grad()
def _score(
    model: nn.Module, groups: list[Group], settings: StepSettings, score: Callable[[MicroBatch], LogProbs]
) -> list[LogProbs]:
    def score_all(micro_batches: list[list[Group]]) -> list[LogProbs]:
        found: dict[int, LogProbs] = {}
        for of_batch in micro_batches:
            with settings.autocast():
                scored = score(micro_batch(model, of_batch, settings))
            for group, part in zip(of_batch, _by_group(scored), strict=True):
                found[id(group)] = part
        return [found[id(group)] for group in groups]

    return score_with_retries(settings, groups, score_all)


def _by_group(scored: LogProbs) -> list[LogProbs]:
    """The log-probs of each group of a batch, on the CPU."""
    group_of_target = scored.response_group[scored.response]
    parts = []
    for g in range(scored.num_groups):
        mine, responses = group_of_target == g, (scored.response_group == g).nonzero()[:, 0]
        parts.append(
            LogProbs(
                logp=scored.logp[mine].cpu(),
                weight=scored.weight[mine].cpu(),
                response=(scored.response[mine] - responses[0]).cpu(),
                response_group=torch.zeros(len(responses), dtype=torch.long),
                num_groups=1,
            )
        )
    return parts


def completion_log_ratio(policy: LogProbs, reference: LogProbs) -> Float[Tensor, " responses"]:
    """log π(y|x) / π_ref(y|x) of each completion, summed over its tokens."""
    return policy.sum() - reference.sum()
