"""Who sees whom in a grid of shared prefixes.

A token sees the prompt of its own group and its own response, up to itself; tokens of one two-way block see each other.
The distance that a sliding window measures is that of `rank`, the position inside prompt + own response, because the
responses stand side by side in the row. Padding sees itself alone, so that no softmax runs over nothing.
"""

import torch
from jaxtyping import Bool
from torch import Tensor

from sightline.types import Batch


def visible(
    batch: Batch, window: int | None = None, *, whole_blocks: bool = False
) -> Bool[Tensor, "rows length length"]:
    """Which keys (last axis) each query (middle axis) may attend to.

    window: how many tokens a sliding layer looks back, itself included; it cuts blocks too, as in Gemma 3
        (window ∧ (causal ∨ same block)). None is no window.
    whole_blocks: the window leaves blocks whole, as in Gemma 4 without a tower ((window ∧ causal) ∨ same block).
    """
    distance = batch.rank[:, :, None] - batch.rank[:, None, :]
    seen = distance >= 0
    seen &= (batch.segment[:, None, :] == 0) | (batch.segment[:, None, :] == batch.segment[:, :, None])
    if window is not None and whole_blocks:
        seen &= distance < window
    if bool((batch.on_host.block >= 0).any()):
        seen |= (batch.block[:, :, None] == batch.block[:, None, :]) & (batch.block >= 0)[:, :, None]
    if window is not None and not whole_blocks:
        seen &= distance < window
    seen &= batch.group[:, :, None] == batch.group[:, None, :]
    # padding, too, sees itself
    itself = torch.eye(seen.shape[-1], dtype=torch.bool, device=seen.device)
    return (seen & (batch.group >= 0)[:, :, None]) | itself
