"""Robust DPO (arXiv:2403.00409): unbiased where a known share ε of the labels is flipped.

L = [−(1 − ε)·log σ(βΔ) + ε·log σ(−βΔ)] / (1 − 2ε),   Δ as in DPO
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.objectives.divergence import Divergence, reverse_kl


def robust_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; can be below 0. log 2 where policy and reference agree.

    Log-probs in nats, summed over target tokens. label_smoothing: ε < 0.5, share of labels that are flipped.
    """
    margin = beta * (divergence(chosen - ref_chosen) - divergence(rejected - ref_rejected))
    clean = -(1 - label_smoothing) * logsigmoid(margin)
    flipped = -label_smoothing * logsigmoid(-margin)
    return (clean - flipped) / (1 - 2 * label_smoothing)
