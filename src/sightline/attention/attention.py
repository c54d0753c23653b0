"""Attention over shared prefixes without a mask: no score is computed that the mask would throw away.

A response's queries attend to the prompt and to their own response in two calls of the flash kernel, whose outputs are
merged by their log-sum-exps, the way FlashAttention (arXiv:2205.14135) and ring attention (arXiv:2310.01889) merge
blocks of keys; each block's backward is the kernel's own, given the *merged* output and log-sum-exp. Scores computed:
P² + P · ΣC + ΣC² instead of (P + ΣC)². Grouped-query attention is the kernel's; keys are not repeated.

It is registered with transformers as an attention implementation of the language model, and takes its layout from the
mask argument; with an ordinary mask it is `sdpa`. CPU only: no CUDA kernel was tried. Left out: dropout, windows,
blocks that are part of a prompt (the family asks for a dense mask then).
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sightline.types import Batch

NAME = "shared_prefix"
SMALLEST_GROUP = 128
"""Tokens of an average group below which one dense call is faster than several small ones."""

_flash = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
_flash_backward = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu_backward


@dataclass(frozen=True, kw_only=True)
class Spans:
    """Where prompts and responses stand in the flattened grid, N = rows · length tokens.

    prompts: (start, end) of each. responses: (start, end) of the run of responses after each prompt, possibly empty.
    own: [R, C] token indices of every response, filled with its first; own_valid tells which are real.
    two_way: whether a prompt sees itself in both directions. last_layer: the layer in which of a prompt only the last
    token asks, since the head reads no other; None for no such layer.
    """

    prompts: tuple[tuple[int, int], ...]
    responses: tuple[tuple[int, int], ...]
    own: Int[Tensor, "responses longest"]
    own_valid: Bool[Tensor, "responses longest"]
    two_way: bool
    last_layer: int | None = None


def spans_of(batch: Batch, last_layer: int | None = None) -> Spans | None:
    """The spans of a grid; None where a dense mask is needed (blocks within prompts) or faster (short groups)."""
    prompt = batch.segment == 0
    two_way = bool((batch.block >= 0).any())
    if two_way and not bool((batch.block == 0)[prompt].all()):
        return None
    group, segment = batch.group.flatten(), batch.segment.flatten()
    changes = (
        (group[1:] != group[:-1]) | (segment[1:] != segment[:-1]) | (prompt.flatten() & (batch.rank == 0).flatten())[1:]
    )
    starts = [0, *(changes.nonzero()[:, 0] + 1).tolist()]
    ends = [*starts[1:], len(group)]
    prompts, responses, single = [], [], []
    for start, end, kind in zip(starts, ends, segment[starts].tolist(), strict=True):
        if kind == 0:
            prompts.append((start, end))
            responses.append((end, end))
        elif kind > 0:
            responses[-1] = (responses[-1][0], end)
            single.append((start, end))
    if int((group >= 0).sum()) < SMALLEST_GROUP * len(prompts):
        return None
    longest = max((end - start for start, end in single), default=0)
    offsets = torch.arange(longest)
    first = torch.tensor([start for start, _ in single], dtype=torch.long)[:, None]
    lengths = torch.tensor([end - start for start, end in single], dtype=torch.long)[:, None]
    valid = offsets < lengths
    return Spans(
        prompts=tuple(prompts),
        responses=tuple(responses),
        own=torch.where(valid, first + offsets, first),
        own_valid=valid,
        two_way=two_way,
        last_layer=last_layer,
    )


def mask_with(spans: Spans) -> Tensor:
    """An empty four-dimensional mask that carries the spans through the model; useless to any other attention."""
    mask = torch.empty(1, 1, 0, 0, dtype=torch.bool)
    mask.spans = spans  # pyright: ignore
    return mask


def attend(
    module: nn.Module,
    query: Float[Tensor, "rows heads length size"],
    key: Float[Tensor, "rows key_heads keys size"],
    value: Float[Tensor, "rows key_heads keys size"],
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    is_causal: bool | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "rows length heads size"], None]:
    """An attention function as transformers calls it. Ordinary masks go to `sdpa`."""
    spans = getattr(attention_mask, "spans", None)
    if spans is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
    assert dropout == 0.0 and others.get("softcap") is None
    rows, _, length, _ = query.shape
    query, key, value = in_one_dtype(query, key, value)
    flat = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    is_last = spans.last_layer is not None and getattr(module, "layer_idx", None) == spans.last_layer
    output = _SharedPrefixAttention.apply(*flat, spans, scaling, is_last)
    return output.unflatten(0, (rows, length)), None


def in_one_dtype(*states: Tensor) -> tuple[Tensor, ...]:
    """The states as autocast hands them to a kernel of its list: rotary embeddings may have left some in float32.

    Without autocast, and in float64, they are untouched; each gradient comes back in its state's own dtype.
    """
    device = states[0].device.type
    if not torch.is_autocast_enabled(device) or states[0].dtype == torch.float64:
        return states
    return tuple(one.to(torch.get_autocast_dtype(device)) for one in states)


AttentionInterface.register(NAME, attend)
AttentionMaskInterface.register(NAME, sdpa_mask)


class _SharedPrefixAttention(torch.autograd.Function):
    """On flat tokens: query [N, heads, size], key and value [N, key heads, size]."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, spans: Spans, scale: float | None, is_last: bool
    ) -> Tensor:
        output = torch.zeros(query.shape, dtype=query.dtype)
        # as the kernel has it: float32 for half precision
        lse = torch.zeros(query.shape[:2], dtype=torch.promote_types(query.dtype, torch.float32))
        for start, end in spans.prompts:
            # the last token sees all of its prompt: alone it needs no causal mask
            asking = slice(end - 1, end) if is_last else slice(start, end)
            (q,), (k, v) = _heads(asking.start, end, query), _heads(start, end, key, value)
            found = _flash(q, k, v, 0.0, not (spans.two_way or is_last), scale=scale)
            output[asking], lse[asking] = _tokens(*found)
        if spans.own_valid.any():
            picked = (states[spans.own].transpose(1, 2) for states in (query, key, value))
            found = _flash(*picked, 0.0, True, scale=scale)
            own_output, own_lse = (t.transpose(1, 2)[spans.own_valid] for t in found)
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
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.spans, ctx.scale, ctx.is_last = spans, scale, is_last
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        query, key, value, output, lse = ctx.saved_tensors
        spans, scale, is_last = ctx.spans, ctx.scale, ctx.is_last
        grads = tuple(torch.zeros_like(states) for states in (query, key, value))
        grad_query, grad_key, grad_value = grads
        for (start, end), (first, last) in zip(spans.prompts, spans.responses, strict=True):
            asking = slice(end - 1, end) if is_last else slice(start, end)
            g, q, out, total = _heads(asking.start, end, grad, query, output, lse)
            k, v = _heads(start, end, key, value)
            found = _tokens(*_flash_backward(g, q, k, v, out, total, 0.0, not (spans.two_way or is_last), scale=scale))
            grad_query[asking] += found[0]
            grad_key[start:end] += found[1]
            grad_value[start:end] += found[2]
            if first == last:
                continue
            g, q, out, total = _heads(first, last, grad, query, output, lse)
            found = _tokens(*_flash_backward(g, q, k, v, out, total, 0.0, False, scale=scale))
            grad_query[first:last] += found[0]
            grad_key[start:end] += found[1]
            grad_value[start:end] += found[2]
        if spans.own_valid.any():
            picked = [states[spans.own].transpose(1, 2) for states in (query, key, value, output, lse)]
            # the filling asks for no gradient, so that it adds nothing to its response's first token
            own_grad = (grad[spans.own] * spans.own_valid[..., None, None]).transpose(1, 2)
            found = _flash_backward(own_grad, *picked, 0.0, True, scale=scale)
            where = spans.own[spans.own_valid]
            for into, part in zip(grads, found, strict=True):
                into[where] += part.transpose(1, 2)[spans.own_valid]
        return (*grads, None, None, None)


def _heads(start: int, end: int, *states: Tensor) -> tuple[Tensor, ...]:
    """Tokens start…end of flat states [N, heads, …] as the kernel takes them: [1, heads, tokens, …]; views."""
    return tuple(s[start:end].transpose(0, 1)[None] for s in states)


def _tokens(*states: Tensor) -> tuple[Tensor, ...]:
    """The inverse of `_heads`."""
    return tuple(s[0].transpose(0, 1) for s in states)
