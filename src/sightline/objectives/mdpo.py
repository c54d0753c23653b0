"""The terms that mDPO (arXiv:2406.11839) adds to DPO: the image must matter, and the chosen answer must not fall.

L_image  = −log σ(r(m_w, y_w) − r(m_l, y_w))   (m_l: the corrupted image)
L_anchor = −log σ(r(m_w, y_w) − δ)   with r = β·log π(y|m, x)/π_ref(y|m, x)
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def image_conditional_loss(
    chosen: Float[Tensor, " pairs"],
    corrupted: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_corrupted: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """Loss of each chosen answer on its image against the same answer on the corrupted one; log 2 at the reference.

    corrupted, ref_corrupted: log-probs in nats of the chosen answer given the corrupted image.
    """
    return -logsigmoid(beta * (chosen - ref_chosen - (corrupted - ref_corrupted)))


def anchor_loss(
    chosen: Float[Tensor, " pairs"], ref_chosen: Float[Tensor, " pairs"], *, beta: float, anchor: float = 0.0
) -> Float[Tensor, " pairs"]:
    """Loss of each chosen answer whose reward is not above the anchor δ. Log-probs in nats, summed."""
    return -logsigmoid(beta * (chosen - ref_chosen) - anchor)
