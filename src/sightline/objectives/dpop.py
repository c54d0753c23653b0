"""DPO-Positive (Smaug, arXiv:2402.13228): DPO that keeps the chosen response's likelihood from falling.

L = −log σ(β·(Δ − λ·max(0, log π_ref(y_w|x)/π(y_w|x)))),   Δ as in DPO
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def dpop_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    penalty: float,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; log 2 where policy and reference agree. Log-probs in nats, summed. penalty: λ."""
    shortfall = torch.relu(ref_chosen - chosen)
    return -logsigmoid(beta * (chosen - ref_chosen - (rejected - ref_rejected) - penalty * shortfall))
