"""The odds-ratio term of ORPO (arXiv:2403.07691, eq. 7); the whole objective adds −log π(y_w|x).

    L_OR = −log σ(log odds(y_w|x)/odds(y_l|x)),   odds = p/(1 − p), log p = log π(y|x)/|y|

A probability above 1 − 10⁻⁶ counts as 1 − 10⁻⁶, where the odds stop growing: a certain response has no finite odds.
"""

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

MOST_CERTAIN = -1e-6
"""Highest log-prob of an average token that has odds."""


def orpo_loss(
    chosen: Float[Tensor, " pairs"],
    rejected: Float[Tensor, " pairs"],
    chosen_length: Float[Tensor, " pairs"],
    rejected_length: Float[Tensor, " pairs"],
) -> Float[Tensor, " pairs"]:
    """Odds-ratio loss of each pair; log 2 for equal odds. Log-probs in nats, summed; lengths in tokens."""
    return -logsigmoid(_log_odds(chosen / chosen_length) - _log_odds(rejected / rejected_length))


def _log_odds(mean_logp: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    logp = mean_logp.clamp(max=MOST_CERTAIN)
    return logp - torch.log(-torch.expm1(logp))
