"""SimPO (arXiv:2405.14734, eq. 6). No reference; the reward is the log-prob of an average token.

L = −(1 − ε)·log σ(m) − ε·log σ(−m),   m = β·(log π(y_w|x)/|y_w| − log π(y_l|x)/|y_l|) − γ
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def simpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    chosen_length: Float[Tensor, " pairs"],
    rejected_length: Float[Tensor, " pairs"],
    *,
    beta: float,
    gamma: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair. Log-probs in nats, summed over target tokens; lengths in tokens; gamma: the target margin."""
    margin = beta * (chosen / chosen_length - rejected / rejected_length) - gamma
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
