"""SPPO with hard labels (arXiv:2405.00675, eq. 4.7 with P = 1 for the winner and 0 for the loser; β = 1/η).

L = (h_w − 1/(2β))² + (h_l + 1/(2β))²,   h = log π(y|x)/π_ref(y|x)
"""

from jaxtyping import Float
from torch import Tensor


def sppo_hard_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; 1/(2β²) where policy and reference agree. Log-probs in nats, summed over target tokens."""
    target = 0.5 / beta
    return (chosen - ref_chosen - target) ** 2 + (rejected - ref_rejected + target) ** 2
