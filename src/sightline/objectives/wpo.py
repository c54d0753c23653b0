"""WPO (arXiv:2406.11827, eq. 2): weight each pair by how likely the policy is to write it, to mimic on-policy data.

    w(y) = exp(1/|y|·Σ_t [log π(y_t) − log Σ_v π(v)²]),   weight of a pair w(y_w)·w(y_l), without gradient

The weight of one response is 1 for a typical on-policy token ("sampled alignment"), and at most e⁴⁰.
"""

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.objectives.divergence import EXPONENT_LIMIT
from sightline.types import LogProbs


def wpo_weights(policy: LogProbs) -> Float[Tensor, " responses"]:
    """Weight of each response, detached. `policy` must carry `log_sum_sq`, log Σ_v π(v)² at each target."""
    assert policy.log_sum_sq is not None, "WPO reads LogProbs.log_sum_sq"
    target = (policy.weight > 0).to(policy.logp.dtype)
    aligned = (policy.logp - policy.log_sum_sq).detach() * target
    total = aligned.new_zeros(policy.num_responses).index_add(0, policy.response, aligned)
    return torch.exp((total / policy.lengths.clamp(min=1)).clamp(max=EXPONENT_LIMIT / 2))
