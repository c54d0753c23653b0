"""BCO (arXiv:2404.04656): a classifier of good against bad responses whose logit is the reward above a shift δ.

    L = −log σ(r_w − δ) − log σ(−(r_l − δ)),   r = β·log π(y|x)/π_ref(y|x)

δ is the mean of the two classes' mean rewards over all steps so far, this one included, as InternVL's MPO
(arXiv:2411.10442) runs it; TRL has δ = 0. Left out: the density ratio for classes of different prompts.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def bco_pair_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    shift: Float[Tensor, ""] | float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; 2·log 2 where policy and reference agree and δ = 0. Log-probs in nats, summed. shift: δ."""
    chosen_reward = beta * (chosen - ref_chosen)
    rejected_reward = beta * (rejected - ref_rejected)
    return -logsigmoid(chosen_reward - shift) - logsigmoid(shift - rejected_reward)


def bco_loss(
    logp: Float[Tensor, " responses"],
    ref_logp: Float[Tensor, " responses"],
    desirable: Bool[Tensor, " responses"],
    *,
    beta: float,
    shift: Float[Tensor, ""] | float = 0.0,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " responses"]:
    """Loss of each single response; log 2 where policy and reference agree and δ = 0. Log-probs in nats, summed."""
    reward = beta * (logp - ref_logp) - shift
    good, bad = -desirable_weight * logsigmoid(reward), -undesirable_weight * logsigmoid(-reward)
    return torch.where(desirable, good, bad)


class RunningRewards(NamedTuple):
    """Sums and counts of all rewards so far, by class, in float64: what δ is made of."""

    desirable_sum: Float[Tensor, ""]
    desirable_count: Float[Tensor, ""]
    undesirable_sum: Float[Tensor, ""]
    undesirable_count: Float[Tensor, ""]

    @staticmethod
    def empty() -> "RunningRewards":
        """Before the first step."""
        return RunningRewards(*torch.zeros(4, dtype=torch.float64))

    def add(
        self, desirable: Float[Tensor, " desirable"], undesirable: Float[Tensor, " undesirable"]
    ) -> "RunningRewards":
        """With the rewards β·log π/π_ref of a step of all processes, without gradient."""
        good, bad = desirable.detach().double(), undesirable.detach().double()
        return RunningRewards(
            desirable_sum=self.desirable_sum.to(good.device) + good.sum(),
            desirable_count=self.desirable_count.to(good.device) + len(good),
            undesirable_sum=self.undesirable_sum.to(bad.device) + bad.sum(),
            undesirable_count=self.undesirable_count.to(bad.device) + len(bad),
        )

    @property
    def shift(self) -> Float[Tensor, ""]:
        """δ: mean of the classes' means; of the one class seen where the other is empty; 0 before the first step."""
        good = self.desirable_sum / self.desirable_count.clamp(min=1)
        bad = self.undesirable_sum / self.undesirable_count.clamp(min=1)
        classes_seen = (self.desirable_count > 0).double() + (self.undesirable_count > 0).double()
        return (good + bad) / classes_seen.clamp(min=1)
