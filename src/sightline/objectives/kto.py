"""KTO (arXiv:2402.01306): the value of single responses, desirable or not, against a reference point.

    L = λ_D·(1 − σ(β(h − z)))  if desirable,   λ_U·(1 − σ(β(z − h)))  if not,   h = log π(y|x)/π_ref(y|x)

z is the KL divergence of policy from reference, estimated over the whole step on answers to other prompts, without
gradient and never below 0.
"""

import torch
from jaxtyping import Bool, Float
from torch import Tensor


def kl_estimate(mismatched: Float[Tensor, " others"], ref_mismatched: Float[Tensor, " others"]) -> Float[Tensor, ""]:
    """z: mean of log π(y'|x)/π_ref(y'|x) over answers y' to other prompts, at least 0. Log-probs in nats, summed."""
    return (mismatched - ref_mismatched).detach().mean().clamp(min=0)


def kto_loss(
    logp: Float[Tensor, " responses"],
    ref_logp: Float[Tensor, " responses"],
    desirable: Bool[Tensor, " responses"],
    kl: Float[Tensor, ""],
    *,
    beta: float,
    desirable_weight: float = 1.0,
    undesirable_weight: float = 1.0,
) -> Float[Tensor, " responses"]:
    """Loss of each response; half its weight where policy and reference agree. Log-probs in nats, summed. kl: z."""
    above = beta * (logp - ref_logp - kl)
    good, bad = desirable_weight * torch.sigmoid(-above), undesirable_weight * torch.sigmoid(above)
    return torch.where(desirable, good, bad)
