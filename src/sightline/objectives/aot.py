"""AOT (arXiv:2406.05882): first-order stochastic dominance, by comparing sorted values over the whole batch.

    paired:    L_i = −log σ(β·(sort(s)_i − sort(s_ref)_i)),   s = log π(y_w|x)/π(y_l|x)
    unpaired:  L_i = −log σ(β·(sort(h_w)_i − sort(h_l)_i)),   h = log π(y|x)/π_ref(y|x)

Both losses depend on which pairs are sorted together, so the batch must be the whole optimizer step.
"""

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid


def aot_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Paired AOT: the policy's sorted margins log π(y_w)/π(y_l) against the reference's sorted ones.

    Entry i is the loss of the i-th smallest, not of pair i; log 2 where policy and reference agree. Log-probs in nats.
    """
    margin = beta * ((chosen - rejected).sort().values - (ref_chosen - ref_rejected).sort().values)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)


def aot_unpaired_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    ref_chosen: Float[Tensor, " pairs"],
    ref_rejected: Float[Tensor, " pairs"],
    *,
    beta: float,
    label_smoothing: float = 0.0,
) -> Float[Tensor, " pairs"]:
    """Unpaired AOT: sorted log-ratios of chosen responses against sorted ones of rejected responses."""
    margin = beta * ((chosen - ref_chosen).sort().values - (rejected - ref_rejected).sort().values)
    return -(1 - label_smoothing) * logsigmoid(margin) - label_smoothing * logsigmoid(-margin)
