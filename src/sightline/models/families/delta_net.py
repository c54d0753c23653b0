"""The gated delta net (arXiv:2412.06464) of Qwen3.5 over shared prefixes: a prompt's state is computed once.

The causal convolution reads each token's own predecessors (`Fork.before`); the delta rule runs over all prompts, then
over all responses from their prompts' final states. The layer's own rule is called, so that a fused kernel that
transformers put in its place (flash-linear-attention) serves here, too. Padding has β = 0 and no decay: it leaves a
state alone. Left out: the cache, which generation uses as it is.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import softplus
from transformers.activations import ACT2FN

from sightline.attention.fork import Fork

PATCHED = "_reads_forks"


def read_forks(model: nn.Module) -> None:
    """Let the gated delta nets of a model read a `Fork` that comes as their mask; without one they are as they were."""
    if PATCHED in vars(model):
        return
    setattr(model, PATCHED, True)
    for kind in {type(module) for module in model.modules() if type(module).__name__.endswith("GatedDeltaNet")}:
        if PATCHED not in vars(kind):
            _patch(kind)


def _patch(kind: Any) -> None:
    plain = kind.forward

    def forward(
        self: Any, hidden_states: Tensor, cache_params: Any = None, attention_mask: Tensor | None = None, **options: Any
    ) -> Tensor:
        fork = getattr(attention_mask, "fork", None)
        if fork is None:
            return plain(self, hidden_states, cache_params=cache_params, attention_mask=attention_mask, **options)
        assert cache_params is None, "a fork is for training; generation forks its cache"
        return forked(self, hidden_states, fork)

    kind.forward = forward
    setattr(kind, PATCHED, True)


def forked(layer: Any, hidden: Tensor, fork: Fork) -> Tensor:
    """The layer's output [rows, length, hidden] on a grid in which responses continue the prompts before them."""
    rows, length, _ = hidden.shape
    flat = hidden.flatten(0, 1)
    mixed = _convolved(layer, layer.in_proj_qkv(flat), fork)
    query, key, value = mixed.split([layer.key_dim, layer.key_dim, layer.value_dim], -1)
    states = (
        query.unflatten(-1, (-1, layer.head_k_dim)),
        key.unflatten(-1, (-1, layer.head_k_dim)),
        value.unflatten(-1, (-1, layer.head_v_dim)),
        -layer.A_log.float().exp() * softplus(layer.in_proj_a(flat).float() + layer.dt_bias),
        layer.in_proj_b(flat).sigmoid(),
    )
    rule = sys.modules[type(layer).__module__].torch_chunk_gated_delta_rule
    found, state = _ruled(rule, states, fork.prompts, None)
    core = value.new_zeros(len(flat) + 1, *found.shape[2:]).index_put((fork.prompts,), found)
    if fork.responses.numel():
        found, _ = _ruled(rule, states, fork.responses, state[fork.parent])
        core = core.index_put((fork.responses,), found)
    core = core[:-1].reshape(-1, layer.head_v_dim)
    gate = layer.in_proj_z(flat).reshape(-1, layer.head_v_dim)
    output = layer.norm(core, gate).reshape(len(flat), -1)
    return layer.out_proj(output).unflatten(0, (rows, length))


def _convolved(layer: Any, mixed: Tensor, fork: Fork) -> Tensor:
    """The layer's causal convolution and activation, each token after its own predecessors."""
    weight = layer.conv1d.weight[:, 0]  # [channels, kernel]; the last column is the token's own
    padded = torch.cat([mixed, mixed.new_zeros(1, mixed.shape[1])])
    found = mixed * weight[:, -1]
    for shift, where in enumerate(fork.before, 1):
        found = found + padded[where] * weight[:, -1 - shift]
    if layer.conv1d.bias is not None:
        found = found + layer.conv1d.bias
    return ACT2FN[layer.activation](found)


def _ruled(
    rule: Callable[..., Any], states: tuple[Tensor, ...], where: Tensor, initial: Tensor | None
) -> tuple[Tensor, Tensor]:
    """The rule over sequences of these tokens, and the states at their ends."""
    picked = [torch.cat([one, one.new_zeros(1, *one.shape[1:])])[where] for one in states]
    query, key, value, decay, beta = picked
    found, state = rule(
        query,
        key,
        value,
        g=decay,
        beta=beta,
        initial_state=initial,
        output_final_state=True,
        use_qk_l2norm_in_kernel=True,
    )
    return found.to(value.dtype), state
