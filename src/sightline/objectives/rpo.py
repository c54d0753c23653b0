"""The likelihood term of Iterative RPO (arXiv:2404.19733), added to a pair loss with weight α.

L = −log π(y_w|x)/|y_w|
"""

from jaxtyping import Float
from torch import Tensor


def rpo_term(chosen: Float[Tensor, " pairs"], chosen_length: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    """Mean negative log-likelihood of a token of each chosen response.

    chosen: log π(y_w|x) in nats. chosen_length: |y_w| in tokens.
    """
    return -chosen / chosen_length
