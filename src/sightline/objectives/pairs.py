"""From token log-probs to what pair losses read: responses 2p and 2p + 1 are chosen and rejected of pair p."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.types import LogProbs


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Log-probs of each pair's responses in nats, and lengths in tokens. Without a reference its log-probs are 0."""

    chosen: Float[Tensor, " pairs"]
    rejected: Float[Tensor, " pairs"]
    ref_chosen: Float[Tensor, " pairs"]
    ref_rejected: Float[Tensor, " pairs"]
    chosen_length: Float[Tensor, " pairs"]
    rejected_length: Float[Tensor, " pairs"]


def pair_scores(policy: LogProbs, reference: LogProbs | None) -> PairScores:
    """Sum each response's log-probs and put chosen beside rejected."""
    sums = policy.sum()
    ref_sums = torch.zeros_like(sums) if reference is None else reference.sum()
    lengths = policy.lengths
    return PairScores(
        chosen=sums[0::2],
        rejected=sums[1::2],
        ref_chosen=ref_sums[0::2],
        ref_rejected=ref_sums[1::2],
        chosen_length=lengths[0::2],
        rejected_length=lengths[1::2],
    )


def length_normalised(scores: PairScores) -> PairScores:
    """Log-probs of an average token instead of the whole response."""
    return replace(
        scores,
        chosen=scores.chosen / scores.chosen_length,
        rejected=scores.rejected / scores.rejected_length,
        ref_chosen=scores.ref_chosen / scores.chosen_length,
        ref_rejected=scores.ref_rejected / scores.rejected_length,
    )


def of_chosen(logprobs: LogProbs) -> Bool[Tensor, " targets"]:
    """Which target tokens belong to a chosen response."""
    return logprobs.response % 2 == 0
