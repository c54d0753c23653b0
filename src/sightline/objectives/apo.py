"""APO, anchored preference optimisation (arXiv:2408.06266), with r = β·log π(y|x)/π_ref(y|x).

zero (eq. 7):  L = 1 − σ(r_w) + σ(r_l)
down (eq. 8):  L = σ(r_w) + 1 − σ(r_w − r_l)
"""

import torch
from jaxtyping import Float
from torch import Tensor


def apo_zero_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """Chosen up, rejected down: for chosen answers better than the model's own. 1 where policy and reference agree."""
    return torch.sigmoid(-beta * (chosen - ref_chosen)) + torch.sigmoid(beta * (rejected - ref_rejected))


def apo_down_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """Both down, rejected more: for chosen answers worse than the model's own. 1 where policy and reference agree."""
    chosen_ratio, rejected_ratio = chosen - ref_chosen, rejected - ref_rejected
    return torch.sigmoid(beta * chosen_ratio) + torch.sigmoid(-beta * (chosen_ratio - rejected_ratio))
