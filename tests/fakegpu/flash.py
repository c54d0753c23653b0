"""torch's variable-length FlashAttention operators, emulated on a CPU: their signature, layout and refusals.

Written after torch's aten/src/ATen/native/transformers/cuda/flash_attn/flash_api.cpp (`mha_varlen_fwd` and `_bwd`):
query [total, heads, size], key and value [total, key heads, size], int32 cumulative ends, causal masks aligned at the
bottom right, log-sum-exps [heads, total] in float32. What CUDA refuses raises here; what it silently reads wrong (a
log-sum-exp that is not contiguous, an address that 16-byte loads cannot take) raises, too.
"""

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

aten = torch.ops.aten
_FORWARD = aten._scaled_dot_product_flash_attention_for_cpu
_BACKWARD = aten._scaled_dot_product_flash_attention_for_cpu_backward
HALF = (torch.bfloat16, torch.float16)


@dataclass
class Flash:
    """exact: also take float32 and float64, so that values can be compared. calls: sequences of each call so far."""

    exact: bool = False
    calls: list[str] = field(default_factory=list)

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        cum_seq_q: Tensor,
        cum_seq_k: Tensor,
        max_q: int,
        max_k: int,
        dropout_p: float,
        is_causal: bool,
        return_debug_mask: bool,
        *,
        scale: float | None = None,
        window_size_left: int | None = None,
        window_size_right: int | None = None,
        seqused_k: Tensor | None = None,
        alibi_slopes: Tensor | None = None,
        block_table: Tensor | None = None,
        num_splits: int | None = None,
    ) -> tuple[Tensor, ...]:
        assert (window_size_left, window_size_right, seqused_k, alibi_slopes, block_table) == (None,) * 5
        assert dropout_p == 0.0 and not return_debug_mask
        self.check((query, key, value), cum_seq_q, cum_seq_k, max_q, max_k)
        if max_q == 1 and query.shape[1] > key.shape[1]:
            # the kernel takes heads of a group as queries then, and one query of each sequence
            assert len(cum_seq_q) - 1 == len(query), "sequences without a query where all others have one"
        self.calls.append(f"forward {len(cum_seq_q) - 1}")
        output = torch.empty_like(query)
        exact = query.dtype if query.dtype in (torch.float32, torch.float64) else torch.float32
        lse = torch.full((query.shape[1], len(query)), torch.inf, dtype=exact)
        for asking, seen in _sequences(cum_seq_q, cum_seq_k):
            found, total = self._one(query[asking], key[seen], value[seen], is_causal, scale)
            output[asking], lse[:, asking] = found, total
        unused = torch.empty((), dtype=torch.uint64)
        return output, lse, torch.empty(2, dtype=torch.uint64), unused, torch.empty(0, dtype=query.dtype)

    def backward(
        self,
        grad_out: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        out: Tensor,
        logsumexp: Tensor,
        cum_seq_q: Tensor,
        cum_seq_k: Tensor,
        max_q: int,
        max_k: int,
        dropout_p: float,
        is_causal: bool,
        rng_state: Tensor,
        unused: Tensor,
        *,
        scale: float | None = None,
        window_size_left: int | None = None,
        window_size_right: int | None = None,
    ) -> tuple[Tensor, Tensor, Tensor]:
        assert (window_size_left, window_size_right) == (None, None) and dropout_p == 0.0
        self.check((query, key, value, out, grad_out), cum_seq_q, cum_seq_k, max_q, max_k)
        assert out.shape == grad_out.shape == query.shape
        assert logsumexp.shape == (query.shape[1], len(query)) and logsumexp.is_contiguous(), "log-sum-exps"
        assert logsumexp.dtype == (torch.float32 if query.dtype in HALF else query.dtype)
        assert rng_state.dtype == torch.uint64 and unused.device == query.device
        self.calls.append(f"backward {len(cum_seq_q) - 1}")
        grads = (torch.empty_like(query), torch.empty_like(key), torch.empty_like(value))
        repeats = query.shape[1] // key.shape[1]
        for asking, seen in _sequences(cum_seq_q, cum_seq_k):
            g, q, o = (_heads(states[asking]) for states in (grad_out, query, out))
            k, v = (_heads(states[seen]).repeat_interleave(repeats, 1) for states in (key, value))
            q, k, v, causal = _bottom_right(q, k, v, is_causal)
            found = _BACKWARD(g, q, k, v, o, logsumexp[None, :, asking].contiguous(), 0.0, causal, scale=scale)
            grads[0][asking] = found[0][0].transpose(0, 1)
            for into, part in zip(grads[1:], found[1:], strict=True):
                into[seen] = part.unflatten(1, (-1, repeats)).sum(2)[0].transpose(0, 1)
        return grads

    def _one(self, query: Tensor, key: Tensor, value: Tensor, causal: bool, scale: float | None) -> tuple[Tensor, ...]:
        repeats = query.shape[1] // key.shape[1]
        k, v = (_heads(states).repeat_interleave(repeats, 1) for states in (key, value))
        q, k, v, causal = _bottom_right(_heads(query), k, v, causal)
        found, total = _FORWARD(q, k, v, 0.0, causal, scale=scale)
        return found[0].transpose(0, 1), total[0]

    def check(self, states: tuple[Tensor, ...], ends_q: Tensor, ends_k: Tensor, max_q: int, max_k: int) -> None:
        """Raise what CUDA raises."""
        query, key, value, *_ = states
        if query.dtype not in HALF and not self.exact:
            raise RuntimeError("FlashAttention only support fp16 and bf16 data type")
        assert all(one.dtype == query.dtype for one in states), "query and others must have the same dtype"
        assert ends_q.dtype == ends_k.dtype == torch.int32, "cu_seqlens must have dtype int32"
        assert ends_q.is_contiguous() and ends_k.is_contiguous()
        assert all(one.stride(-1) == 1 for one in states), "Input tensor must have contiguous last dimension"
        assert all(one.ndim == 3 for one in states)
        total, heads, size = query.shape
        if size % 8 or size > 256:
            raise RuntimeError(f"FlashAttention takes head sizes of a multiple of 8 up to 256, not {size}")
        if query.dtype in HALF:
            rows = (one.stride(axis) for one in states for axis in (0, 1) if one.shape[axis] > 1)
            assert all(stride % 8 == 0 for stride in rows), "rows that begin where no 16 bytes do"
            assert all(one.data_ptr() % 16 == 0 for one in states), "16-byte alignment"
        assert heads % key.shape[1] == 0 and key.shape == value.shape == (key.shape[0], key.shape[1], size)
        assert len(ends_q) == len(ends_k) > 1, "batch size must be positive"
        q, k = ends_q.tolist(), ends_k.tolist()
        assert (q[0], q[-1], k[0], k[-1]) == (0, total, 0, len(key)), "ends that are not the states'"
        assert max(b - a for a, b in itertools.pairwise(q)) == max_q
        assert max(b - a for a, b in itertools.pairwise(k)) == max_k
        assert all(b > a for ends in (q, k) for a, b in itertools.pairwise(ends)), "an empty sequence"


@contextmanager
def flash_on_cpu(*, exact: bool = False) -> Iterator[Flash]:
    """Within, the operators exist for tensors on a CPU; torch's dispatcher checks their signature."""
    flash = Flash(exact=exact)
    library: Any = torch.library.Library("aten", "IMPL")
    library.impl("_flash_attention_forward", flash.forward, "CPU")
    library.impl("_flash_attention_backward", flash.backward, "CPU")
    try:
        yield flash
    finally:
        library._destroy()


def _heads(states: Tensor) -> Tensor:
    return states.transpose(0, 1)[None].contiguous()


def _sequences(ends_q: Tensor, ends_k: Tensor) -> list[tuple[slice, slice]]:
    q, k = ends_q.tolist(), ends_k.tolist()
    return [
        (slice(a, b), slice(c, d)) for a, b, c, d in zip(q[:-1], q[1:], k[:-1], k[1:], strict=True) if b > a and d > c
    ]


def _bottom_right(q: Tensor, k: Tensor, v: Tensor, causal: bool) -> tuple[Tensor, Tensor, Tensor, bool]:
    """The CPU's kernel aligns its causal mask at the top left: the same where there are as many keys as queries."""
    assert not causal or q.shape[2] == k.shape[2], "a causal call with other lengths is aligned at the bottom right"
    return q, k, v, causal
