"""Hinge loss on DPO's margin: SLiC-HF (arXiv:2305.10425) in the form of RSO (arXiv:2309.06657).

L = max(0, 1 − βΔ),   Δ as in DPO
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.objectives.divergence import Divergence, reverse_kl


def hinge_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; 1 where policy and reference agree, 0 once the margin βΔ is 1. Log-probs in nats, summed."""
    margin = beta * (divergence(chosen - ref_chosen) - divergence(rejected - ref_rejected))
    return torch.relu(1 - margin)
