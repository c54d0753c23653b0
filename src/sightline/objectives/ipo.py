"""IPO (arXiv:2310.12036, eq. 17), on log-ratios of an average token, as its authors ran it and TRL does.

L = (h_w/|y_w| − h_l/|y_l| − 1/(2β))²,   h = log π(y|x)/π_ref(y|x)
"""

from jaxtyping import Float
from torch import Tensor

from sightline.objectives.divergence import Divergence, reverse_kl


def ipo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    chosen_length: Float[Tensor, " pairs"],
    rejected_length: Float[Tensor, " pairs"],
    *,
    beta: float,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; 1/(4β²) where policy and reference agree.

    Log-probs in nats, summed over target tokens; lengths in tokens. 1/(2β) nats is the target margin.
    """
    chosen_reward = divergence(chosen - ref_chosen) / chosen_length
    rejected_reward = divergence(rejected - ref_rejected) / rejected_length
    return (chosen_reward - rejected_reward - 1 / (2 * beta)) ** 2
