"""Gated short convolutions (LFM2) over shared prefixes: a response's first tokens read the last of its prompt.

The state of such a layer is the few last tokens of its input, so that the fork is one of indices (`Fork.before`). Left
out: the cache, which generation uses as it is.
"""

from typing import Any

from torch import Tensor

from sightline.attention.fork import Fork, convolved


def forked(layer: Any, hidden: Tensor, fork: Fork) -> Tensor:
    """The layer's output [rows, length, hidden] on a grid in which responses continue the prompts before them."""
    gate_in, gate_out, states = layer.in_proj(hidden.flatten(0, 1)).chunk(3, -1)
    mixed = convolved(gate_in * states, layer.conv.weight[:, 0], layer.conv.bias, fork)
    return layer.out_proj(gate_out * mixed).view_as(hidden)
