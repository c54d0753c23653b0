"""Attention over shared prefixes without a mask: no score is computed that the mask would throw away.

A response's queries attend to the prompt and to their own response in two calls of a flash kernel, whose outputs are
merged by their log-sum-exps, the way FlashAttention (arXiv:2205.14135) and ring attention (arXiv:2310.01889) merge
blocks of keys; each part's backward is the kernel's own, given the *merged* output and log-sum-exp. Scores computed:
P² + P · ΣC + ΣC² instead of (P + ΣC)². Grouped-query attention is the kernel's; keys are not repeated.

It is registered with transformers as an attention implementation of the language model, and takes its plan from the
mask argument; with an ordinary mask it is `sdpa`. Prompts with two-way blocks inside (Gemma 3's images) see themselves
through a dense mask on [prompt × prompt] alone. Left out: dropout, caps, windows that are shorter than a prompt with
its response; the family asks for a dense mask then.
"""

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward
from transformers.masking_utils import sdpa_mask

from sightline.attention.spans import PromptMask, Spans

NAME = "shared_prefix"
SMALLEST_GROUP = 128
"""Tokens of an average group below which, on a CPU, one dense call is faster than several small ones."""


@runtime_checkable
class Kernel(Protocol):
    """Attention over the spans of a grid, on flat tokens: query [N, heads, size], key and value [N, key heads, size].

    Prompts are left out where `Spans.sees` is "blocks", but for their last token in the last layer. Tokens that nobody
    reads (padding; a prompt's in the last layer, but its last) may have any output, and get no gradient.
    """

    @property
    def name(self) -> str: ...

    @property
    def how(self) -> str:
        """What it does, in a few words for the person at the terminal."""
        ...

    def prepare(self, spans: Spans, device: torch.device) -> Any:
        """What forward and backward read of the spans, on the device; made once for all layers."""
        ...

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, plan: Any, scale: float | None, is_last: bool
    ) -> tuple[Tensor, Tensor]:
        """The output, of the query's shape, and its log-sum-exp in whatever form backward takes."""
        ...

    def backward(
        self,
        grad: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        output: Tensor,
        lse: Tensor,
        plan: Any,
        scale: float | None,
        is_last: bool,
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Gradients of query, key and value."""
        ...


@dataclass(frozen=True, kw_only=True)
class Plan:
    """A kernel, the spans of a grid, and what the kernel prepared of them. blocks: the spans' mask on the device."""

    kernel: Kernel
    spans: Spans
    prepared: Any
    blocks: PromptMask | None


def plan_with(kernel: Kernel, spans: Spans, device: torch.device) -> Plan:
    """The plan of one forward."""
    mask = spans.prompt_mask
    prepared = kernel.prepare(spans, device)
    return Plan(kernel=kernel, spans=spans, prepared=prepared, blocks=None if mask is None else mask.to(device))


def is_worthwhile(spans: Spans, device: torch.device) -> bool:
    """Whether a grid's groups are long enough for more than one call."""
    return device.type != "cpu" or spans.num_tokens >= SMALLEST_GROUP * len(spans.prompts)


def mask_with(plan: Plan, device: torch.device | None = None) -> Tensor:
    """An empty four-dimensional mask that carries the plan through the model; useless to any other attention."""
    # where the model is: what moves a forward's arguments would make another tensor of it
    mask = torch.empty(1, 1, 0, 0, dtype=torch.bool, device=device)
    mask.plan = plan  # pyright: ignore
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
    plan = getattr(attention_mask, "plan", None)
    if plan is None:
        return sdpa_attention_forward(
            module, query, key, value, attention_mask, dropout=dropout, scaling=scaling, is_causal=is_causal, **others
        )
    assert dropout == 0.0 and others.get("softcap") is None
    rows, _, length, _ = query.shape
    query, key, value = in_one_dtype(query, key, value)
    query, key, value = (states.transpose(1, 2).flatten(0, 1) for states in (query, key, value))
    is_last = plan.spans.last_layer is not None and getattr(module, "layer_idx", None) == plan.spans.last_layer
    output = _SharedPrefixAttention.apply(query, key, value, plan, scaling, is_last)
    if plan.blocks is not None and not is_last:
        output = _with_prompts(output, query, key, value, plan.blocks, scaling)
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


def _with_prompts(
    output: Tensor, query: Tensor, key: Tensor, value: Tensor, mask: PromptMask, scale: float | None
) -> Tensor:
    """The output [N, heads, size] with the prompts' own, which a mask tells what they see of themselves."""
    q, k, v = (states[mask.tokens].transpose(1, 2) for states in (query, key, value))
    grouped = q.shape[1] != k.shape[1]
    found = nn.functional.scaled_dot_product_attention(
        q, k, v, attn_mask=mask.seen[:, None], scale=scale, enable_gqa=grouped
    )
    return output.index_copy(0, mask.into, found.transpose(1, 2).flatten(0, 1).index_select(0, mask.real))


class _SharedPrefixAttention(torch.autograd.Function):
    """On flat tokens: query [N, heads, size], key and value [N, key heads, size]."""

    @staticmethod
    def forward(
        ctx: Any, query: Tensor, key: Tensor, value: Tensor, plan: Plan, scale: float | None, is_last: bool
    ) -> Tensor:
        output, lse = plan.kernel.forward(query, key, value, plan.prepared, scale, is_last)
        ctx.save_for_backward(query, key, value, output, lse)
        ctx.plan, ctx.scale, ctx.is_last = plan, scale, is_last
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        plan = ctx.plan
        found = plan.kernel.backward(grad, *ctx.saved_tensors, plan.prepared, ctx.scale, ctx.is_last)
        return (*found, None, None, None)
