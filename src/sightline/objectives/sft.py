"""Supervised fine-tuning. Prompt and image placeholders are never targets.

L_t = −log π(y_t|x, y_<t)
"""

from jaxtyping import Float
from torch import Tensor


def sft_loss(logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """Negative log-likelihood of each target token, in nats. logp: log π(y_t | x, y_<t)."""
    return -logp
