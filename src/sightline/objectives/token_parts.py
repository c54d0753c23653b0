"""Likelihood of demonstrations as parts: averaged over target tokens of all responses, or of desirable ones only."""

from collections.abc import Callable

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.objectives.labels import desirable_of_group
from sightline.objectives.metrics import Metrics, token_metrics
from sightline.objectives.part import Part, Sample
from sightline.objectives.roles import ordinary_of
from sightline.types import Group


def token_part(loss: Callable[[Tensor], Tensor], *, weight: float, only_desirable: bool) -> Part:
    """A loss of each target token's log-prob.

    only_desirable: in a mixture over pairs or labelled responses, only chosen or desirable ones are demonstrations.
    """

    def demonstrated(sample: Sample) -> Bool[Tensor, " targets"]:
        if only_desirable:
            return sample.desirable[sample.policy.response]
        return torch.ones_like(sample.policy.response, dtype=torch.bool)

    def losses(sample: Sample) -> Tensor:
        policy = sample.policy
        return (loss(policy.logp) * policy.weight).masked_fill(~demonstrated(sample), 0)

    def count(group: Group) -> int:
        counted = desirable_of_group(group) if only_desirable else ordinary_of(group)
        return sum(int((w > 0).sum()) for w, use in zip(group.weights, counted.tolist(), strict=True) if use)

    def metrics(sample: Sample) -> Metrics:
        return token_metrics(sample.policy, demonstrated(sample))

    return Part(weight=weight, per="tokens", losses=losses, count=count, metrics=metrics)
