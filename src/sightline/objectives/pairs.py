"""From token log-probs to what pair losses read: responses 2p and 2p + 1 are chosen and rejected of pair p."""

from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from sightline.objectives.roles import ORDINARY, num_of_role
from sightline.types import Group, LogProbs

PerPair = Float[Tensor, " pairs"]


@dataclass(frozen=True, kw_only=True)
class PairScores:
    """Log-probs of each pair's responses in nats, and lengths in tokens. Without a reference its log-probs are 0."""

    chosen: Float[Tensor, " pairs"]
    rejected: Float[Tensor, " pairs"]
    ref_chosen: Float[Tensor, " pairs"]
    ref_rejected: Float[Tensor, " pairs"]
    chosen_length: Float[Tensor, " pairs"]
    rejected_length: Float[Tensor, " pairs"]

    @property
    def four(self) -> tuple[PerPair, PerPair, PerPair, PerPair]:
        """chosen, rejected, ref_chosen, ref_rejected: the order in which losses take them."""
        return self.chosen, self.rejected, self.ref_chosen, self.ref_rejected

    @property
    def lengths(self) -> tuple[PerPair, PerPair]:
        """chosen_length, rejected_length."""
        return self.chosen_length, self.rejected_length


def pair_scores(policy: LogProbs, reference: LogProbs | None) -> PairScores:
    """Sum each response's log-probs and put chosen beside rejected."""
    return scores_of(policy.sum(), None if reference is None else reference.sum(), policy.lengths)


def scores_of(
    logp: Float[Tensor, " responses"],
    ref_logp: Float[Tensor, " responses"] | None,
    lengths: Float[Tensor, " responses"],
) -> PairScores:
    """Put chosen beside rejected. A length of 0 counts as 1."""
    reference = torch.zeros_like(logp) if ref_logp is None else ref_logp
    lengths = lengths.clamp(min=1)
    return PairScores(
        chosen=logp[0::2],
        rejected=logp[1::2],
        ref_chosen=reference[0::2],
        ref_rejected=reference[1::2],
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


def num_pairs(group: Group) -> int:
    """Pairs of a group: half its ordinary responses."""
    return num_of_role(group, ORDINARY) // 2
