"""The slow oracle of shared prefixes: every score that is seen, in float64, query by query of the rule itself."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.attention.spans import Spans

QUERIES_AT_A_TIME = 256


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """For each token: its sequence's number, its prompt's number, and its place in prompt + own response."""

    spans: Spans
    segment: Tensor
    prompt: Tensor
    rank: Tensor


class PlainKernel:
    """See `attention.Kernel`. Outputs and gradients are of the inputs' dtype, all between is float64."""

    name = "plain"
    how = "all scores in float64"

    def prepare(self, spans: Spans, device: torch.device) -> Prepared:
        segment, prompt, rank = (torch.full((spans.total,), -1) for _ in range(3))
        for number, (start, end) in enumerate(spans.prompts):
            segment[start:end], prompt[start:end], rank[start:end] = 0, number, torch.arange(end - start)
        for number, (start, end) in enumerate(spans.single, 1):
            parent = max(p for p, (first, _) in enumerate(spans.prompts) if first < start)
            length = spans.prompts[parent][1] - spans.prompts[parent][0]
            segment[start:end], prompt[start:end] = number, parent
            rank[start:end] = length + torch.arange(end - start)
        parts = (one.to(device) for one in (segment, prompt, rank))
        return Prepared(spans=spans, **dict(zip(("segment", "prompt", "rank"), parts, strict=True)))

    def forward(
        self,
        query: Float[Tensor, "tokens heads size"],
        key: Float[Tensor, "tokens key_heads size"],
        value: Float[Tensor, "tokens key_heads size"],
        plan: Prepared,
        scale: float | None,
        is_last: bool,
    ) -> tuple[Tensor, Tensor]:
        output, lse = torch.zeros_like(query), query.new_zeros(query.shape[:2], dtype=torch.float64)
        k, v = _for_every_head(key, query), _for_every_head(value, query)
        for rows in _asking(plan, is_last):
            scores = _scores(query, k, plan, rows, scale)
            lse[rows] = scores.logsumexp(-1)
            output[rows] = torch.einsum("qhk,khd->qhd", scores.softmax(-1), v).to(output.dtype)
        return output, lse

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        plan: Prepared,
        scale: float | None,
        is_last: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        k, v = _for_every_head(key, query), _for_every_head(value, query)
        grad_query, grad_k, grad_v = torch.zeros_like(query), torch.zeros_like(k), torch.zeros_like(v)
        factor = query.shape[-1] ** -0.5 if scale is None else scale
        for rows in _asking(plan, is_last):
            p, g = _scores(query, k, plan, rows, scale).softmax(-1), grad[rows].double()
            grad_v += torch.einsum("qhk,qhd->khd", p, g)
            grad_p = torch.einsum("qhd,khd->qhk", g, v)
            grad_scores = factor * p * (grad_p - (p * grad_p).sum(-1, keepdim=True))
            grad_query[rows] = torch.einsum("qhk,khd->qhd", grad_scores, k).to(query.dtype)
            grad_k += torch.einsum("qhk,qhd->khd", grad_scores, query[rows].double())
        together = (one.unflatten(1, (key.shape[1], -1)).sum(2).to(key.dtype) for one in (grad_k, grad_v))
        grad_key, grad_value = together
        return grad_query, grad_key, grad_value


def _for_every_head(states: Tensor, query: Tensor) -> Tensor:
    return states.repeat_interleave(query.shape[1] // states.shape[1], 1).double()


def _asking(plan: Prepared, is_last: bool) -> list[Tensor]:
    """The tokens that ask, some at a time: of a prompt all, the last, or none where a mask serves it elsewhere."""
    asks = plan.segment > 0
    if is_last:
        asks[[end - 1 for _, end in plan.spans.prompts]] = True
    elif plan.spans.sees != "blocks":
        asks |= plan.segment == 0
    return [*asks.nonzero()[:, 0].split(QUERIES_AT_A_TIME)]


def _scores(query: Tensor, key: Tensor, plan: Prepared, rows: Tensor, scale: float | None) -> Tensor:
    """[rows, heads, N] scaled products, −∞ where nothing is seen."""
    segment, prompt, rank = plan.segment[rows, None], plan.prompt[rows, None], plan.rank[rows, None]
    within = (plan.segment == 0) | (plan.segment == segment)
    seen = (plan.prompt == prompt) & within & (plan.rank <= rank)
    if plan.spans.sees == "two-way":
        seen |= (plan.prompt == prompt) & (plan.segment == 0)
    factor = query.shape[-1] ** -0.5 if scale is None else scale
    scores = factor * torch.einsum("qhd,khd->qhk", query[rows].double(), key)
    return scores.masked_fill(~seen[:, None], -torch.inf)
