"""NCA for pairs (arXiv:2402.05369, K = 2): the chosen response's likelihood may not fall.

L = −log σ(r_w) − ½·log σ(−r_w) − ½·log σ(−r_l),   r = β·log π(y|x)/π_ref(y|x)
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def nca_pair_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
) -> Float[Tensor, " pairs"]:
    """Loss of each pair; 2·log 2 where policy and reference agree. Log-probs in nats, summed over target tokens."""
    chosen_reward = beta * (chosen - ref_chosen)
    rejected_reward = beta * (rejected - ref_rejected)
    return -logsigmoid(chosen_reward) - 0.5 * logsigmoid(-chosen_reward) - 0.5 * logsigmoid(-rejected_reward)
