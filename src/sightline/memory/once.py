"""The delta rule of linear attention, a loop over chunks, is traced once for its shapes; then it stands for itself.

Without data an operation costs its time all the same, and the rule has some thousand of them in every layer, forward,
recomputed and backward. What the first call holds is written down; every later one with the same shapes takes as many
bytes, at the same moments: at most in forward and in backward, and kept between them. A first pass that recomputation
throws away is counted as one that is kept; the layer's second pass, in backward, holds no less.
"""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from sightline.memory.ledger import Ledger, Phase

RULE = "torch_chunk_gated_delta_rule"
"""What transformers calls it, in the file of every model that has it."""


class Cost(NamedTuple):
    """Bytes above what lives when it starts. kept: between forward and backward, outputs aside. forward, backward: the
    most. outputs: what comes out, as shape and dtype; None for none."""

    kept: int
    forward: int
    backward: int
    outputs: tuple[tuple[torch.Size, torch.dtype] | None, ...]


COSTS: dict[Any, Cost] = {}
"""By the rule, the shapes and precisions that it was called with, and its options."""


@contextmanager
def traced_once(model: nn.Module, ledger: Ledger) -> Iterator[None]:
    """Within, the model's delta rules stand for themselves after their first call."""
    modules = {sys.modules[type(module).__module__] for module in model.modules()}
    plain = {module: vars(module)[RULE] for module in modules if RULE in vars(module)}
    for module, rule in plain.items():
        setattr(module, RULE, partial(_ruled, rule, ledger))
    try:
        yield
    finally:
        for module, rule in plain.items():
            setattr(module, RULE, rule)


def _ruled(
    rule: Callable[..., Any],
    ledger: Ledger,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    *,
    g: Tensor,
    beta: Tensor,
    initial_state: Tensor | None = None,
    **options: Any,
) -> tuple[Tensor | None, ...]:
    states = (query, key, value, g, beta, initial_state)
    shapes = tuple(None if one is None else (one.shape, one.dtype, one.requires_grad) for one in states)
    known = (rule, shapes, tuple(sorted(options.items())))
    if known not in COSTS:
        with _apart(ledger):
            COSTS[known] = _trace(rule, ledger, states, options)
    return _Standing.apply(COSTS[known], *states)


@contextmanager
def _apart(ledger: Ledger) -> Iterator[None]:
    """Within, what lives is not recorded in the ledger's phase."""
    phase = ledger.current
    try:
        yield
    finally:
        ledger.current = phase


def _trace(rule: Callable[..., Any], ledger: Ledger, states: tuple[Tensor | None, ...], options: Any) -> Cost:
    leaves = [None if one is None else one.detach().requires_grad_(one.requires_grad) for one in states]
    # hooks of its own, which those of a recomputation around it do not see
    with torch.enable_grad(), saved_tensors_hooks(Tensor.detach, lambda one: one):
        start = ledger.live
        # copies, so that an input that is kept for backward shows
        query, key, value, g, beta, initial = given = [None if one is None else one.clone() for one in leaves]
        inputs = ledger.live - start
        forward = ledger.current = Phase(peak=ledger.live)
        found = rule(query, key, value, g=g, beta=beta, initial_state=initial, **options)
    del query, key, value, g, beta, initial, given
    outputs = [one for one in found if one is not None]
    kept = ledger.live - start - sum(one.untyped_storage().nbytes() for one in outputs)
    asked = [one for one in leaves if one is not None and one.requires_grad]
    backward, begin = Phase(), 0
    if asked:
        gradients = [torch.empty_like(one) for one in outputs]
        begin = ledger.live
        backward = ledger.current = Phase(peak=begin)
        torch.autograd.grad(outputs, asked, gradients, allow_unused=True)
    return Cost(
        kept=kept,
        forward=forward.peak - start - inputs,
        backward=backward.peak - begin,
        outputs=tuple(None if one is None else (one.shape, one.dtype) for one in found),
    )


class _Standing(torch.autograd.Function):
    """Takes memory as the rule does, and computes nothing."""

    @staticmethod
    def forward(ctx: Any, cost: Cost, *states: Tensor | None) -> tuple[Tensor | None, ...]:
        some = next(one for one in states if one is not None)
        some.new_empty(cost.forward, dtype=torch.uint8)
        # saved, so that recomputation may drop it
        ctx.save_for_backward(some.new_empty(cost.kept, dtype=torch.uint8))
        ctx.cost, ctx.inputs = cost, [None if one is None else (one.shape, one.dtype) for one in states]
        return tuple(_new(some, one) for one in cost.outputs)

    @staticmethod
    def backward(ctx: Any, *_: Tensor | None) -> tuple[Tensor | None, ...]:
        (kept,) = ctx.saved_tensors
        kept.new_empty(ctx.cost.backward, dtype=torch.uint8)
        needs = ctx.needs_input_grad[1:]
        return None, *(_new(kept, one) if needed else None for one, needed in zip(ctx.inputs, needs, strict=True))


def _new(some: Tensor, like: tuple[torch.Size, torch.dtype] | None) -> Tensor | None:
    return None if like is None else some.new_empty(like[0], dtype=like[1])
