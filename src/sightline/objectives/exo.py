"""EXO for pairs (arXiv:2402.00856, eq. 16): reverse KL from the policy's preference to the smoothed label.

L = p·[log p − log(1 − ε)] + (1 − p)·[log(1 − p) − log ε],   p = σ(βΔ), Δ as in DPO
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.objectives.divergence import Divergence, reverse_kl


def exo_pair_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair, 0 where p = 1 − ε. Log-probs in nats, summed. label_smoothing: ε, above 0."""
    margin = beta * (divergence(chosen - ref_chosen) - divergence(rejected - ref_rejected))
    prefers_chosen = torch.sigmoid(margin) * (logsigmoid(margin) - math.log1p(-label_smoothing))
    prefers_rejected = torch.sigmoid(-margin) * (logsigmoid(-margin) - math.log(label_smoothing))
    return prefers_chosen + prefers_rejected
