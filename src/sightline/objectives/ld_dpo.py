"""LD-DPO (arXiv:2409.06411): the tokens by which one response of a pair is longer than the other weigh α.

log π(y|x) := Σ_{t ≤ L} log π(y_t) + α·Σ_{t > L} log π(y_t),   L = min(|y_w|, |y_l|)
"""

from dataclasses import replace

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.types import LogProbs


def length_desensitised(logprobs: LogProbs, *, alpha: float) -> LogProbs:
    """The same log-probs with the weights of tokens beyond the shorter response's length scaled by α in [0, 1].

    Responses 2p and 2p + 1 are a pair; the tokens of a response are in the order of its text.
    """
    lengths = logprobs.lengths
    shared = torch.minimum(lengths[0::2], lengths[1::2]).repeat_interleave(2)
    tail = position_in_response(logprobs) > shared[logprobs.response]
    return replace(logprobs, weight=torch.where(tail, alpha * logprobs.weight, logprobs.weight))


def position_in_response(logprobs: LogProbs) -> Int[Tensor, " targets"]:
    """For each token, how many target tokens of its response come up to it, itself included; from 1."""
    order = torch.argsort(logprobs.response, stable=True)
    response = logprobs.response[order]
    counted = (logprobs.weight[order] > 0).long().cumsum(0)
    lengths = logprobs.lengths.long()
    before = lengths.cumsum(0) - lengths
    return torch.empty_like(counted).scatter(0, order, counted - before[response])
