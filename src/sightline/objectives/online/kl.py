"""Estimates of KL(π ‖ π_ref) from one sampled token each (joschu.net/blog/kl-approx.html), with d = log π_ref − log π.

    k1 = −d            unbiased, can be negative
    k2 = ½d²           biased, low variance; its gradient is that of the KL divergence
    k3 = e^d − d − 1   unbiased, never negative; GRPO's (arXiv:2402.03300, eq. 4)

d is held below 40 inside the exponential, where float32 would soon overflow.
"""

from typing import Literal

from jaxtyping import Float
from torch import Tensor

from sightline.objectives.divergence import EXPONENT_LIMIT
from sightline.objectives.online.clip import bounded_ratio

Estimator = Literal["k1", "k2", "k3"]


def kl_by_token(
    logp: Float[Tensor, " targets"], ref_logp: Float[Tensor, " targets"], *, estimator: Estimator
) -> Float[Tensor, " targets"]:
    """The estimate at each token, differentiable in logp. Log-probs in nats."""
    difference = ref_logp - logp
    match estimator:
        case "k1":
            return -difference
        case "k2":
            return 0.5 * difference**2
        case "k3":
            return difference.clamp(max=EXPONENT_LIMIT).exp() - difference - 1


def ratio_corrected(kl: Float[Tensor, " targets"], log_ratio: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """The estimate times ρ = π/π_old (DeepSeek-V3.2, arXiv:2512.02556): unbiased for completions of the old policy.

    Where π = π_old its value is the estimate's, its gradient is not. TRL has it on by default.
    """
    return kl * bounded_ratio(log_ratio)
