"""Dense DPO (RLHF-V, arXiv:2312.00849): corrected segments weigh more, and length does not count.

    log π(y|x) := Σ_t w_t·log π(y_t|x, y_<t) / Σ_t w_t,   w = γ > 1 on corrected segments, else 1

DPO's loss is then taken of these. The weights come with the data (`Response.segments`, `LogProbs.weight`).
"""

from jaxtyping import Float
from torch import Tensor

from sightline.types import LogProbs


def segment_weighted_mean(logprobs: LogProbs) -> Float[Tensor, " responses"]:
    """Weighted average of each response's token log-probs, in nats a token."""
    total = logprobs.per_response(logprobs.logp.new_ones(len(logprobs.logp)))
    return logprobs.sum() / total.clamp(min=1e-6)
