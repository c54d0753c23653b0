"""Length-normalised DPO (Tülu 3, arXiv:2411.15124).

L = −log σ(β·(h_w/|y_w| − h_l/|y_l|)),   h = log π(y|x)/π_ref(y|x)
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from sightline.objectives.divergence import Divergence, reverse_kl


def sigmoid_norm_loss(
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
    """Loss of each pair; log 2 where policy and reference agree. Log-probs in nats, summed; lengths in tokens."""
    chosen_reward = divergence(chosen - ref_chosen) / chosen_length
    rejected_reward = divergence(rejected - ref_rejected) / rejected_length
    return -logsigmoid(beta * (chosen_reward - rejected_reward))
