"""DiscoPOP (arXiv:2406.08414, eq. 5): a blend, found by a language model, of logistic and exponential loss.

    L = (1 − σ(βΔ/τ))·(−log σ(βΔ)) + σ(βΔ/τ)·exp(−βΔ),   Δ as in DPO

Not convex: at the reference its slope in βΔ is (1 − log 2)/(4τ) − 3/4, above 0 for τ < 0.102 and so for the paper's
τ = 0.05. Training then starts by pulling chosen and rejected the *wrong* way, to a local minimum at βΔ = −0.119 that
only noise between steps leaves (the hill's top is at +0.072). TRL's is the same function.

The second product is computed as exp(−βΔ + log σ(βΔ/τ)), which is finite for every margin where τ ≤ 1.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.objectives.divergence import Divergence, reverse_kl


def discopop_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    tau: float = 0.05,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; (1 + log 2)/2 where policy and reference agree. Log-probs in nats, summed. tau: in (0, 1]."""
    margin = beta * (divergence(chosen - ref_chosen) - divergence(rejected - ref_rejected))
    logistic = -logsigmoid(margin) * torch.sigmoid(-margin / tau)
    exponential = torch.exp(-margin + logsigmoid(margin / tau))
    return logistic + exponential
