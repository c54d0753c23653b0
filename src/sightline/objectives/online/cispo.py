"""CISPO (MiniMax-M1, arXiv:2506.13585): the ratio is truncated as a weight, so that no token loses its gradient.

L_t = −sg(min(ρ, ρ_max))·A·log π(y_t),   ρ = exp(log-ratio)
"""

from jaxtyping import Float
from torch import Tensor

from sightline.objectives.online.clip import bounded_ratio


def cispo_loss(
    logp: Float[Tensor, " targets"],
    log_ratio: Float[Tensor, " targets"],
    advantage: Float[Tensor, " targets"],
    *,
    max_ratio: float,
) -> Float[Tensor, " targets"]:
    """Loss of each token. logp: log π(y_t), nats. max_ratio: ρ_max (TRL's `epsilon_high` for CISPO)."""
    return -bounded_ratio(log_ratio).clamp(max=max_ratio).detach() * advantage * logp
