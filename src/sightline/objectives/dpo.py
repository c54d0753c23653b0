"""DPO (arXiv:2305.18290, eq. 7), with label smoothing (cDPO, ericmitchell.ai/cdpo.pdf, eq. 3) and f-DPO's divergences.

L = −(1 − ε)·log σ(βΔ) − ε·log σ(−βΔ),   Δ = log π(y_w|x)/π_ref(y_w|x) − log π(y_l|x)/π_ref(y_l|x)
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.objectives.divergence import Divergence, reverse_kl


def dpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
    divergence: Divergence = reverse_kl,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; log 2 where policy and reference agree.

    chosen, rejected: log π(y|x) in nats, summed over target tokens. ref_…: the same of the reference.
    beta: strength of the pull towards the reference. label_smoothing: ε, share of labels taken to be flipped.
    """
    margin = beta * (divergence(chosen - ref_chosen) - divergence(rejected - ref_rejected))
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
