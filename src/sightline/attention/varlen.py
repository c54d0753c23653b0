"""The kernel of shared prefixes on CUDA: two calls of torch's variable-length FlashAttention (arXiv:2307.08691).

One call is causal, of sequences that see themselves: every prompt and every response. The other is not: the run of
responses after each prompt asks that prompt. Outputs are merged by their log-sum-exps; backward is the kernel's own,
twice, given the merged output and log-sum-exp, which makes it exact. Where prompts are seen in both directions, and in
the last layer, where of a prompt only its last token asks, the second call has the prompts' queries too and the first
the responses alone. No loop over groups; what lies in order in memory is a view, not a copy: everything, of one group.

torch's own `varlen_attn` gives its log-sum-exp without a gradient, so that merging by autograd would be wrong. The
operators here are those that FlashAttention 3 and 4 take over once torch is told so (`torch.nn.attention.
activate_flash_attention_impl`).
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float, Int
from torch import Tensor

from sightline.attention.spans import Run, Spans
from sightline.transfer import move_together

LONGEST_FILLING = 128
"""Tokens of a sequence of padding, which sees itself and is read by nobody."""

_flash = torch.ops.aten._flash_attention_forward
_flash_backward = torch.ops.aten._flash_attention_backward

Places = slice | Tensor
"""Tokens of a flat grid: a run of them, or their indices."""


@dataclass(frozen=True, kw_only=True)
class Call:
    """Sequences of queries, each with its sequence of keys. Ends are cumulative and begin with 0."""

    queries: Places
    keys: Places
    query_ends: Int[Tensor, " ends"]
    key_ends: Int[Tensor, " ends"]
    longest_query: int
    longest_key: int
    causal: bool


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """The calls of an ordinary layer and of the last. The queries of the second are among those of the first."""

    ordinary: tuple[Call, ...]
    last: tuple[Call, ...]


class VarlenKernel:
    """See `attention.Kernel`."""

    name = "cuda"
    how = "two variable-length FlashAttention calls a layer"

    def prepare(self, spans: Spans, device: torch.device) -> Prepared:
        asked = [(prompt, run) for prompt, run in zip(spans.prompts, spans.responses, strict=True)]
        answered = [(prompt, run) for prompt, run in asked if run[0] < run[1]]
        own = [(run, run) for run in spans.single]
        ends_of_prompts = [((prompt[1] - 1, run[1]), prompt) for prompt, run in asked]
        last = [_call(ends_of_prompts, causal=False), _call(own, causal=True)]
        if spans.sees == "causal":
            everything = sorted([*spans.prompts, *spans.single, *_pieces(spans.filling)])
            ordinary = [
                _call([(run, run) for run in everything], causal=True),
                _call([(run, prompt) for prompt, run in answered], causal=False),
            ]
        elif spans.sees == "two-way":
            ordinary = [_call([((prompt[0], run[1]), prompt) for prompt, run in asked], causal=False)]
            ordinary.append(_call(own, causal=True))
        else:
            ordinary = [_call([(run, prompt) for prompt, run in answered], causal=False), _call(own, causal=True)]
        return _moved(Prepared(ordinary=_present(ordinary), last=_present(last)), device)

    def forward(
        self,
        query: Float[Tensor, "tokens heads size"],
        key: Float[Tensor, "tokens key_heads size"],
        value: Float[Tensor, "tokens key_heads size"],
        plan: Prepared,
        scale: float | None,
        is_last: bool,
    ) -> tuple[Tensor, Tensor]:
        output = lse = None
        for call in plan.last if is_last else plan.ordinary:
            q, k, v = _pick(query, call.queries), _pick(key, call.keys), _pick(value, call.keys)
            longest = (call.longest_query, call.longest_key)
            found, found_lse, *_ = _flash(
                q, k, v, call.query_ends, call.key_ends, *longest, 0.0, call.causal, False, scale=scale
            )
            assert found_lse.shape == (query.shape[1], len(q)), "this torch has another layout of log-sum-exps"
            if output is not None and lse is not None:
                _merge(output, lse, found, found_lse, call.queries)
            elif _is_all(call.queries, query):
                output, lse = found, found_lse
            else:
                output, lse = torch.zeros_like(query), found_lse.new_zeros(found_lse.shape[0], len(query))
                _put(output, found, call.queries)
                _put(lse.T, found_lse.T, call.queries)
        if output is None or lse is None:  # masked prompts without any response
            return torch.zeros_like(query), query.new_zeros(query.shape[1], len(query), dtype=torch.float32)
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
        grads: list[Tensor | None] = [None, None, None]
        # no dropout, no random numbers: the operator wants the tensors all the same
        state, unused = (torch.empty(n, dtype=torch.uint64, device=query.device) for n in ((2,), ()))
        for call in plan.last if is_last else plan.ordinary:
            q, k, v = _pick(query, call.queries), _pick(key, call.keys), _pick(value, call.keys)
            asked, out = _pick(grad, call.queries).contiguous(), _pick(output, call.queries)
            # the kernel takes rows of log-sum-exps to lie one after another
            total = _pick(lse.T, call.queries).T.contiguous()
            ends, longest = (call.query_ends, call.key_ends), (call.longest_query, call.longest_key)
            found = _flash_backward(
                asked, q, k, v, out, total, *ends, *longest, 0.0, call.causal, state, unused, scale=scale
            )
            parts = zip((query, key, value), found, (call.queries, call.keys, call.keys), strict=True)
            grads = [_added(into, *part) for into, part in zip(grads, parts, strict=True)]
        whole = zip(grads, (query, key, value), strict=True)
        grad_query, grad_key, grad_value = (torch.zeros_like(s) if g is None else g for g, s in whole)
        return grad_query, grad_key, grad_value


def _call(pairs: Sequence[tuple[Run, Run]], *, causal: bool) -> Call | None:
    """Sequences (queries, keys), in the order of the grid; None for none. No sequence is empty."""
    if not pairs:
        return None
    queries, keys = [query for query, _ in pairs], [key for _, key in pairs]
    return Call(
        queries=_places(queries),
        keys=_places(keys),
        query_ends=_ends(queries),
        key_ends=_ends(keys),
        longest_query=max(end - start for start, end in queries),
        longest_key=max(end - start for start, end in keys),
        causal=causal,
    )


def _present(calls: Sequence[Call | None]) -> tuple[Call, ...]:
    return tuple(call for call in calls if call is not None)


def _places(runs: Sequence[Run]) -> Places:
    if all(end == start for (_, end), (start, _) in itertools.pairwise(runs)):
        return slice(runs[0][0], runs[-1][1])
    return torch.cat([torch.arange(start, end) for start, end in runs])


def _ends(runs: Sequence[Run]) -> Tensor:
    return torch.tensor([0, *(end - start for start, end in runs)]).cumsum(0).int()


def _pieces(runs: Sequence[Run]) -> list[Run]:
    """The same tokens in runs of at most LONGEST_FILLING."""
    step = LONGEST_FILLING
    return [(at, min(at + step, end)) for start, end in runs for at in range(start, end, step)]


def _moved(plan: Prepared, device: torch.device) -> Prepared:
    """The plan's tensors on `device`, in one copy that nobody waits for."""
    if device.type == "cpu":
        return plan
    moved = iter(move_together([t for call in (*plan.ordinary, *plan.last) for t in _tensors(call)], device))

    def on_device(call: Call) -> Call:
        return replace(call, **{name: next(moved) for name, one in vars(call).items() if isinstance(one, Tensor)})

    return Prepared(ordinary=tuple(map(on_device, plan.ordinary)), last=tuple(map(on_device, plan.last)))


def _tensors(call: Call) -> list[Tensor]:
    return [one for one in vars(call).values() if isinstance(one, Tensor)]


def _is_all(places: Places, states: Tensor) -> bool:
    return isinstance(places, slice) and places.start == 0 and places.stop == len(states)


def _pick(states: Tensor, places: Places) -> Tensor:
    return states[places] if isinstance(places, slice) else states.index_select(0, places)


def _put(into: Tensor, found: Tensor, places: Places) -> None:
    if isinstance(places, slice):
        into[places] = found
    else:
        into.index_copy_(0, places, found)


def _merge(output: Tensor, lse: Tensor, found: Tensor, found_lse: Tensor, places: Places) -> None:
    """Put into output [N, heads, size] and lse [heads, N] what a second part of the keys adds at these queries."""
    before, before_lse = _pick(output, places), _pick(lse.T, places).T
    # exp(a) / (exp(a) + exp(b)), in float32: half precision would be rounded twice
    share = torch.sigmoid(before_lse - found_lse).T[..., None]
    mixed = (share * before).addcmul_(1 - share, found.to(share.dtype))
    _put(output, mixed.to(output.dtype), places)
    _put(lse.T, torch.logaddexp(before_lse, found_lse).T, places)


def _added(into: Tensor | None, states: Tensor, found: Tensor, places: Places) -> Tensor:
    """The gradient so far of `states` and that of the tokens at these places."""
    if into is None and _is_all(places, states):
        return found
    into = torch.zeros_like(states) if into is None else into
    if isinstance(places, slice):
        into[places] += found
        return into
    return into.index_add_(0, places, found)
