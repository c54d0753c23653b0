"""Gated delta nets (arXiv:2412.06464; Qwen3.5) over shared prefixes: a prompt's state is computed once.

The causal convolution reads each token's own predecessors (`Fork.before`); the delta rule runs over all prompts, then
over all responses from their prompts' final states. The layer's own rule is called, so that a fused kernel that
transformers put in its place (flash-linear-attention) serves here, too. Padding has β = 0 and no decay: it leaves a
state alone. Left out: the cache, which generation uses as it is.
"""

import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import softplus
from transformers.activations import ACT2FN

from sightline.attention.fork import Fork, convolved


def forked(layer: Any, hidden: Tensor, fork: Fork) -> Tensor:
    """The layer's output [rows, length, hidden] on a grid in which responses continue the prompts before them."""
    rows, length, _ = hidden.shape
    flat = hidden.flatten(0, 1)
    conv = layer.conv1d
    mixed = ACT2FN[layer.activation](convolved(layer.in_proj_qkv(flat), conv.weight[:, 0], conv.bias, fork))
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
