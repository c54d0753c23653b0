"""PPO's clipped surrogate (arXiv:1707.06347, eq. 7), as GRPO takes it by token, with DAPO's higher upper bound.

    L_t = −min(ρ·A, clip(ρ, 1 − ε_low, 1 + ε_high)·A),   ρ = exp(log-ratio)

ρ is held below e⁴⁰, where float32 would soon overflow.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.objectives.divergence import EXPONENT_LIMIT


def clipped_loss(
    log_ratio: Float[Tensor, " targets"],
    advantage: Float[Tensor, " targets"],
    *,
    epsilon_low: float,
    epsilon_high: float,
    max_ratio: float | None = None,
) -> Float[Tensor, " targets"]:
    """Loss of each token; −A where policy and old policy agree.

    advantage: of the token's completion. epsilon_high: above epsilon_low is DAPO's clip-higher (arXiv:2503.14476).
    max_ratio: bound on ρ where A is negative too (two-sided clipping, arXiv:2505.07291); above 1 + ε_high.
    """
    ratio = bounded_ratio(log_ratio)
    clipped = ratio.clamp(1 - epsilon_low, 1 + epsilon_high)
    if max_ratio is not None:
        ratio = ratio.clamp(max=max_ratio)
    return -torch.minimum(ratio * advantage, clipped * advantage)


@dataclass(frozen=True, kw_only=True)
class Clipped:
    """Which tokens lie outside the bounds on the side where that stops their gradient."""

    low: Bool[Tensor, " targets"]
    high: Bool[Tensor, " targets"]


def clipped_tokens(
    log_ratio: Float[Tensor, " targets"],
    advantage: Float[Tensor, " targets"],
    *,
    epsilon_low: float,
    epsilon_high: float,
) -> Clipped:
    """Tokens made less likely beyond 1 − ε_low with A < 0, and more likely beyond 1 + ε_high with A > 0."""
    ratio = bounded_ratio(log_ratio)
    return Clipped(low=(ratio < 1 - epsilon_low) & (advantage < 0), high=(ratio > 1 + epsilon_high) & (advantage > 0))


def bounded_ratio(log_ratio: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """ρ = exp(log-ratio), at most e⁴⁰."""
    return log_ratio.clamp(max=EXPONENT_LIMIT).exp()
