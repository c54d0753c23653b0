"""Dense DPO (RLHF-V, arXiv:2312.00849): corrected segments weigh more, and length does not count.

    log π(y|x) := Σ_t w_t·log π(y_t|x, y_<t) / Σ_t w_t,   w = γ > 1 on corrected segments, else 1

DPO's loss is then taken of these. Where the data marks no segments (`Response.segments`), corrected are the tokens in
which chosen and rejected response differ, as in RLHF-V's own code. The weights travel in `LogProbs.weight`.
"""

from difflib import SequenceMatcher

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.types import LogProbs


def segment_weighted_mean(logprobs: LogProbs) -> Float[Tensor, " responses"]:
    """Weighted average of each response's token log-probs, in nats per token."""
    total = logprobs.per_response(logprobs.logp.new_ones(len(logprobs.logp)))
    return logprobs.sum() / total.clamp(min=1e-6)


def corrected_tokens(
    chosen: Int[Tensor, " chosen"], rejected: Int[Tensor, " rejected"]
) -> tuple[Bool[Tensor, " chosen"], Bool[Tensor, " rejected"]]:
    """Which tokens of each response are not in a longest common run of both (Ratcliff and Obershelp's matching)."""
    marked = torch.ones(len(chosen), dtype=torch.bool), torch.ones(len(rejected), dtype=torch.bool)
    for block in SequenceMatcher(None, chosen.tolist(), rejected.tolist(), autojunk=False).get_matching_blocks():
        marked[0][block.a : block.a + block.size] = False
        marked[1][block.b : block.b + block.size] = False
    return marked
