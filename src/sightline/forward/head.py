"""Log-probs of target tokens straight from hidden states; never a tensor of [tokens × vocabulary].

With z = cap · tanh((W h + b) / cap) and p = softmax(z / T), for a target y (arXiv:2411.09009 has the idea):

    log p_y                 = z_y / T − log Σ exp(z / T)
    ∂ log p_y / ∂ h         = (onehot_y − p) · diag((1 − z² / cap²) / T) · W

Frozen head: that gradient depends on h alone, so it is formed in forward, one row J of [hidden] a target, and
backward is g · J: nothing is computed twice. Trainable head: each chunk is computed again in backward. Statistics
carry no gradient.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.autograd.function import once_differentiable

CHUNK_ELEMENTS = 2**23
"""Logits that exist at a time on a CPU: 32 MiB in float32."""
MOST_ELEMENTS = 2**27
"""The same on a GPU with room for them: 512 MiB in float32. Each chunk reads the whole weight of the head."""
BYTES_OF_DEVICE = 600
"""Bytes of a GPU's memory for each of its logits at a time: 1% of it in float32 and half precision."""


def logits_on(device: torch.device, memory: int | None = None) -> int:
    """Logits that exist at a time on a device of so much memory, in bytes; a CUDA device is asked when left out."""
    if device.type != "cuda":
        return CHUNK_ELEMENTS
    memory = torch.cuda.get_device_properties(device).total_memory if memory is None else memory
    return max(CHUNK_ELEMENTS, min(MOST_ELEMENTS, memory // BYTES_OF_DEVICE))


@contextmanager
def logits_at_a_time(number: int) -> Iterator[None]:
    """Within, another number of them: where a vocabulary is tiny, targets then come in several chunks all the same."""
    global CHUNK_ELEMENTS, MOST_ELEMENTS
    before = CHUNK_ELEMENTS, MOST_ELEMENTS
    CHUNK_ELEMENTS = MOST_ELEMENTS = number
    try:
        yield
    finally:
        CHUNK_ELEMENTS, MOST_ELEMENTS = before


class TokenStatistics(NamedTuple):
    """Per target: log-prob in nats; and, when asked for, statistics of the distribution it was drawn from.

    entropy: nats, at the given temperature. top1: the target was the most likely token. mean_logit: over the
    vocabulary, before temperature. log_sum_sq: log Σ p² (WPO, arXiv:2406.11827).
    """

    logp: Float[Tensor, " targets"]
    entropy: Float[Tensor, " targets"] | None = None
    top1: Bool[Tensor, " targets"] | None = None
    mean_logit: Float[Tensor, " targets"] | None = None
    log_sum_sq: Float[Tensor, " targets"] | None = None


class Logits(NamedTuple):
    """How hidden states become logits. temperature divides last; softcap comes from the model's config."""

    temperature: float = 1.0
    softcap: float | None = None

    def of(self, hidden: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """[n, V] logits before temperature, in float32 or wider."""
        raw = torch.nn.functional.linear(hidden, weight, bias)
        # numbers of half precision are too coarse to sum 10⁵ exponentials
        logits = raw.float() if raw.dtype in (torch.bfloat16, torch.float16) else raw
        if self.softcap is not None:
            logits = self.softcap * torch.tanh(logits / self.softcap)
        return logits

    def slope(self, logits: Tensor) -> Tensor | float:
        """∂ (logits / T) / ∂ raw logits: [n, V], or a number where it is one."""
        slope = 1.0 if self.softcap is None else 1 - (logits / self.softcap).square()
        return slope / self.temperature


def token_log_probs(
    hidden: Float[Tensor, "targets hidden"],
    weight: Float[Tensor, "vocabulary hidden"],
    bias: Float[Tensor, " vocabulary"] | None,
    target: Int[Tensor, " targets"],
    *,
    chunk: int | None = None,
    temperature: float = 1.0,
    softcap: float | None = None,
    statistics: bool = False,
) -> TokenStatistics:
    """log p(target | hidden) under the head `weight`, `bias`; differentiable in hidden, weight and bias.

    chunk: targets computed at a time; so many as keep to `logits_on` the device when left out.
    Values come in float32 (float64 from float64 inputs), whatever the head's precision.
    """
    chunk = chunk or max(1, logits_on(hidden.device) // len(weight))
    dtype = _compute_dtype(hidden, weight)
    trains_head = weight.requires_grad or (bias is not None and bias.requires_grad)
    keep = torch.is_grad_enabled() and (trains_head or hidden.requires_grad)
    logits = Logits(temperature, softcap)
    values = _TokenLogProbs.apply(hidden, weight, bias, target, chunk, logits, statistics, dtype, keep)
    if not statistics:
        return TokenStatistics(values[0])
    logp, entropy, top1, mean_logit, log_sum_sq = values
    return TokenStatistics(logp, entropy, top1, mean_logit, log_sum_sq)


def _compute_dtype(hidden: Tensor, weight: Tensor) -> torch.dtype:
    """What the matrix products run in: autocast's choice, else the head's own precision."""
    if torch.is_autocast_enabled(hidden.device.type):
        return torch.get_autocast_dtype(hidden.device.type)
    return weight.dtype


class _TokenLogProbs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        hidden: Tensor,
        weight: Tensor,
        bias: Tensor | None,
        target: Tensor,
        chunk: int,
        logits: Logits,
        statistics: bool,
        dtype: torch.dtype,
        keep: bool,
    ) -> tuple[Tensor, ...]:
        trains_head = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
        ctx.logits, ctx.chunk, ctx.dtype, ctx.jacobian = logits, chunk, dtype, keep and not trains_head
        matrix = weight.to(dtype)
        offset = None if bias is None else bias.to(dtype)
        jacobian = hidden.new_empty(hidden.shape if ctx.jacobian else (0,), dtype=dtype)
        pieces = []
        for part in _parts(len(target), chunk):
            with torch.autocast(hidden.device.type, enabled=False):
                values, coefficients = _score(
                    logits.of(hidden[part].to(dtype), matrix, offset), target[part], logits, statistics, ctx.jacobian
                )
                if coefficients is not None:
                    torch.mm(coefficients.to(dtype), matrix, out=jacobian[part])
            pieces.append(values)
        if not pieces:
            pieces.append(
                _score(logits.of(hidden[:0].to(dtype), matrix, offset), target[:0], logits, statistics, False)[0]
            )
        columns = [torch.cat(column) for column in zip(*pieces, strict=True)]
        if ctx.jacobian:
            ctx.save_for_backward(jacobian)
        elif keep:
            ctx.save_for_backward(hidden, weight, bias, target)
        ctx.mark_non_differentiable(*columns[1:])
        ctx.hidden_dtype = hidden.dtype
        return tuple(columns)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_logp: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        nothing = (None,) * 6
        if ctx.jacobian:
            (jacobian,) = ctx.saved_tensors
            return ((grad_logp[:, None] * jacobian).to(ctx.hidden_dtype), None, None, *nothing)
        hidden, weight, bias, target = ctx.saved_tensors
        matrix = weight.to(ctx.dtype)
        offset = None if bias is None else bias.to(ctx.dtype)
        grad_hidden = torch.empty_like(hidden)
        grad_weight = torch.zeros_like(weight)
        grad_bias = None if bias is None else torch.zeros_like(bias)
        for part in _parts(len(target), ctx.chunk):
            rows = hidden[part].to(ctx.dtype)
            _, coefficients = _score(ctx.logits.of(rows, matrix, offset), target[part], ctx.logits, False, True)
            assert coefficients is not None
            coefficients.mul_(grad_logp[part, None])
            if grad_bias is not None:
                grad_bias += coefficients.sum(0)
            coefficients = coefficients.to(ctx.dtype)
            grad_hidden[part] = coefficients @ matrix
            grad_weight += coefficients.T @ rows
        return (grad_hidden, grad_weight, grad_bias, *nothing)


def _parts(length: int, most: int) -> list[slice]:
    """`length` targets in as few parts of at most `most` as can be, all of nearly the same size: a short last one
    would read the whole head for a few rows."""
    count = -(-length // most)
    return [slice(length * i // count, length * (i + 1) // count) for i in range(count)]


def _score(
    logits: Tensor, target: Tensor, how: Logits, statistics: bool, gradient: bool
) -> tuple[tuple[Tensor, ...], Tensor | None]:
    """One chunk: (log-probs, statistics…) and ∂ log p / ∂ raw logits [n, V]. Overwrites `logits`."""
    rows = torch.arange(len(target), device=target.device)
    mean_logit = logits.mean(-1) if statistics else None
    slope = how.slope(logits) if gradient else None
    top = logits.amax(-1, keepdim=True)
    # from here on `logits` holds (z − max z) / T, then exp of it, or its product with exp of it
    logits = logits.sub_(top)
    if how.temperature != 1.0:
        logits = logits.div_(how.temperature)
    chosen = logits[rows, target]
    top1 = chosen >= 0
    unnormalised = logits.exp() if statistics else logits.exp_()
    total = unnormalised.sum(-1)
    values = (chosen - total.log(),)
    if statistics:
        assert mean_logit is not None
        entropy = total.log() - logits.mul_(unnormalised).sum(-1) / total
        log_sum_sq = 2 * (torch.linalg.vector_norm(unnormalised, dim=-1).log() - total.log())
        values = (*values, entropy, top1, mean_logit, log_sum_sq)
    if slope is None:
        return values, None
    coefficients = unnormalised.div_(total.neg()[:, None])
    coefficients[rows, target] += 1
    return values, coefficients.mul_(slope) if isinstance(slope, Tensor) or slope != 1.0 else coefficients
