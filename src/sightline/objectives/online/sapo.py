"""SAPO (arXiv:2511.20347): a smooth gate in place of clipping, with its own temperature for negative advantages.

L_t = −(4/τ)·σ(τ(ρ − 1))·A,   τ = τ_pos where A > 0 and τ_neg elsewhere,   ρ = exp(log-ratio)
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.objectives.online.clip import bounded_ratio


def sapo_loss(
    log_ratio: Float[Tensor, " targets"],
    advantage: Float[Tensor, " targets"],
    *,
    temperature_positive: float = 1.0,
    temperature_negative: float = 1.05,
) -> Float[Tensor, " targets"]:
    """Loss of each token; −2A/τ where policy and old policy agree, with GRPO's gradient there."""
    temperature = torch.full_like(advantage, temperature_negative).masked_fill(advantage > 0, temperature_positive)
    return -torch.sigmoid(temperature * (bounded_ratio(log_ratio) - 1)) * 4 / temperature * advantage
