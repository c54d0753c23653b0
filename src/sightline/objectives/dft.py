"""Dynamic fine-tuning (arXiv:2508.05629): likelihood weighted by the token's own probability, without gradient.

L_t = −sg(π(y_t|x, y_<t))·log π(y_t|x, y_<t)
"""

from jaxtyping import Float
from torch import Tensor


def dft_loss(logp: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    """Loss of each target token. logp: log π(y_t|x, y_<t) in nats, at most 0."""
    return -logp.detach().clamp(max=0).exp() * logp
