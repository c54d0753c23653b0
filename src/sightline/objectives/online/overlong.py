"""DAPO's soft overlong punishment (arXiv:2503.14476, eq. 13): a reward that falls over the last tokens of the limit.

R = 0 up to L_max − L_cache,   then (L_max − L_cache − |y|)/L_cache,   −1 above L_max
"""

from jaxtyping import Float
from torch import Tensor


def overlong_punishment(length: Float[Tensor, " responses"], *, limit: int, buffer: int) -> Float[Tensor, " responses"]:
    """Added to each completion's reward, in [−1, 0]. length, limit (L_max) and buffer (L_cache > 0) in tokens."""
    return ((limit - buffer - length) / buffer).clamp(-1, 0)
