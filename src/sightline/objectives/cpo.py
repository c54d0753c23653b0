"""The preference term of CPO (arXiv:2401.08417, eq. 3): DPO against a uniform reference, whose ratio cancels.

    L = −(1 − ε)·log σ(m) − ε·log σ(−m),   m = β·(log π(y_w|x) − log π(y_l|x))

The whole objective adds the likelihood of the chosen response.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def cpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; log 2 for equally likely responses. Log-probs in nats, summed over target tokens."""
    margin = beta * (chosen - rejected)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
