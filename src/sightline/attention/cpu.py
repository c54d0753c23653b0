"""The kernel of shared prefixes on a CPU: torch's flash kernel, prompt by prompt, and once over all responses.

Scores computed: P² + P · ΣC + ΣC² instead of (P + ΣC)². Grouped-query attention is the kernel's; keys are not repeated.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.attention.spans import Spans

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """own: token indices of every response, filled with its first; own_valid tells which are real."""

    spans: Spans
    own: Int[Tensor, "responses longest"]
    own_valid: Bool[Tensor, "responses longest"]

    def asking(self, start: int, end: int, is_last: bool) -> slice:
        """The queries of a prompt; the last token sees all of its prompt: alone it needs no causal mask."""
        return slice(end - 1, end) if is_last else slice(start, end)

    def is_causal(self, is_last: bool) -> bool:
        return self.spans.sees == "causal" and not is_last

    def asks(self, is_last: bool) -> bool:
        """Whether prompts are asked for here; blocks have a mask of their own elsewhere."""
        return is_last or self.spans.sees != "blocks"


class CpuKernel:
    """See `attention.Kernel`."""

    name = "cpu"
    how = "torch's flash kernel for CPUs, prompt by prompt"

    def prepare(self, spans: Spans, device: torch.device) -> Prepared:
        longest = max((end - start for start, end in spans.single), default=0)
        offsets = torch.arange(longest)
        first = torch.tensor([start for start, _ in spans.single], dtype=torch.long)[:, None]
        lengths = torch.tensor([end - start for start, end in spans.single], dtype=torch.long)[:, None]
        valid = offsets < lengths
        return Prepared(spans=spans, own=torch.where(valid, first + offsets, first), own_valid=valid)

    def forward(
        self,
        query: Float[Tensor, "tokens heads size"],
        key: Float[Tensor, "tokens key_heads size"],
        value: Float[Tensor, "tokens key_heads size"],
        plan: Prepared,
        scale: float | None,
        is_last: bool,
    ) -> tuple[Tensor, Tensor]:
        spans = plan.spans
        output = torch.zeros(query.shape, dtype=query.dtype)
        # as the kernel has it: float32 for half precision
        lse = torch.zeros(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for start, end in spans.prompts if plan.asks(is_last) else ():
            asking = plan.asking(start, end, is_last)
            (q,), (k, v) = _heads(asking.start, end, query), _heads(start, end, key, value)
            found = _flash(q, k, v, 0.0, plan.is_causal(is_last), scale=scale)
            output[asking], lse[asking] = _tokens(*found)
        if plan.own_valid.any():
            picked = (states[plan.own].transpose(1, 2) for states in (query, key, value))
            found = _flash(*picked, 0.0, True, scale=scale)
            own_output, own_lse = (t.transpose(1, 2)[plan.own_valid] for t in found)
            done = 0
            for (start, end), (first, last) in zip(spans.prompts, spans.responses, strict=True):
                if first == last:
                    continue
                own = slice(done, done + last - first)
                done = own.stop
                (q,), (k, v) = _heads(first, last, query), _heads(start, end, key, value)
                seen_output, seen_lse = _tokens(*_flash(q, k, v, 0.0, False, scale=scale))
                lse[first:last] = merged = torch.logaddexp(seen_lse, own_lse[own])
                from_prompt, from_own = (seen_lse - merged).exp(), (own_lse[own] - merged).exp()
                output[first:last] = from_prompt[..., None] * seen_output + from_own[..., None] * own_output[own]
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
        spans = plan.spans
        grads = (torch.zeros_like(query), torch.zeros_like(key), torch.zeros_like(value))
        grad_query, grad_key, grad_value = grads
        for (start, end), (first, last) in zip(spans.prompts, spans.responses, strict=True):
            asked = [(plan.asking(start, end, is_last), plan.is_causal(is_last))] if plan.asks(is_last) else []
            asked += [(slice(first, last), False)] if first < last else []
            for asking, causal in asked:
                g, q, out, total = _heads(asking.start, asking.stop, grad, query, output, lse)
                k, v = _heads(start, end, key, value)
                found = _tokens(*_flash_backward(g, q, k, v, out, total, 0.0, causal, scale=scale))
                grad_query[asking] += found[0]
                grad_key[start:end] += found[1]
                grad_value[start:end] += found[2]
        if plan.own_valid.any():
            picked = [states[plan.own].transpose(1, 2) for states in (query, key, value, output, lse)]
            # the filling asks for no gradient, so that it adds nothing to its response's first token
            own_grad = (grad[plan.own] * plan.own_valid[..., None, None]).transpose(1, 2)
            found = _flash_backward(own_grad, *picked, 0.0, True, scale=scale)
            where = plan.own[plan.own_valid]
            for into, part in zip(grads, found, strict=True):
                into[where] += part.transpose(1, 2)[plan.own_valid]
        return grads


def _heads(start: int, end: int, *states: Tensor) -> tuple[Tensor, ...]:
    """Tokens start…end of flat states [N, heads, …] as the kernel takes them: [1, heads, tokens, …]; views."""
    return tuple(s[start:end].transpose(0, 1)[None] for s in states)


def _tokens(*states: Tensor) -> tuple[Tensor, ...]:
    """The inverse of `_heads`."""
    return tuple(s[0].transpose(0, 1) for s in states)
