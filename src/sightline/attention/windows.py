"""A vision tower's attention over images and windows that lie one after another, in one call for each size of them.

transformers calls sdpa once for every window of every image (64 windows · 28 layers for an image of 896 × 896 in
Qwen2.5-VL), unless the implementation is a flash kernel: then it hands on all of them with their cumulative ends. This
is such an implementation: on CUDA in half precision one variable-length FlashAttention call, elsewhere one call of sdpa
a size. Its name has "flash" in it because transformers looks for that.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import sdpa_mask

from sightline.attention.attention import in_one_dtype
from sightline.attention.choice import choose
from sightline.transfer import move_together

NAME = "flash_windows"


def attend_windows(
    module: nn.Module,
    query: Float[Tensor, "1 heads tokens size"],
    key: Float[Tensor, "1 heads tokens size"],
    value: Float[Tensor, "1 heads tokens size"],
    attention_mask: Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    cu_seq_lens_q: Tensor | None = None,
    **others: Any,
) -> tuple[Float[Tensor, "1 tokens heads size"], None]:
    """An attention function as transformers calls it. cu_seq_lens_q: ends of the windows, which begin with 0."""
    assert attention_mask is None and dropout == 0.0 and cu_seq_lens_q is not None
    device, lengths = query.device, _lengths(cu_seq_lens_q)
    query, key, value = in_one_dtype(query, key, value)
    if takes_flash(device, query.dtype, query.shape[-1]):
        flat = (states[0].transpose(0, 1) for states in (query, key, value))
        (ends,) = _on_device(cu_seq_lens_q, "ends", [cu_seq_lens_q.int()], device)
        found, *_ = torch.ops.aten._flash_attention_forward(
            *flat, ends, ends, max(lengths), max(lengths), 0.0, False, False, scale=scaling
        )
        return found[None], None
    if len(set(lengths)) == 1:  # as they lie
        q, k, v = (one[0].unflatten(1, (-1, lengths[0])).transpose(0, 1) for one in (query, key, value))
        return _sdpa(q, k, v, scaling).flatten(0, 1)[None], None
    *places, back = _on_device(cu_seq_lens_q, "places", _by_size(lengths), device)
    found = []
    for where in places:
        q, k, v = (one[0].transpose(0, 1)[where].transpose(1, 2) for one in (query, key, value))
        found.append(_sdpa(q, k, v, scaling).flatten(0, 1))
    return torch.cat(found)[back][None], None


AttentionInterface.register(NAME, attend_windows)
AttentionMaskInterface.register(NAME, sdpa_mask)


def takes_flash(device: torch.device, dtype: torch.dtype, head_size: int) -> bool:
    """Whether CUDA's variable-length FlashAttention serves such states."""
    return device.type == "cuda" and choose(device, dtype, head_size).kernel is not None


def _sdpa(query: Tensor, key: Tensor, value: Tensor, scale: float | None) -> Tensor:
    """[windows, heads, length, size] -> [windows, length, heads, size]."""
    return nn.functional.scaled_dot_product_attention(query, key, value, scale=scale).transpose(1, 2)


def _lengths(ends: Tensor) -> list[int]:
    """Of the windows; read once, however many layers ask."""
    known = getattr(ends, "lengths", None)
    if known is None:
        known = ends.lengths = ends.diff().tolist()  # pyright: ignore
    return known


def _by_size(lengths: list[int]) -> list[Tensor]:
    """For each size its windows' tokens [windows, size]; last, where each token is among all of them in this order."""
    sizes = torch.tensor(lengths)
    starts = sizes.cumsum(0) - sizes
    found = [starts[sizes == size][:, None] + torch.arange(size) for size in sorted(set(lengths))]
    return [*found, torch.cat([one.flatten() for one in found]).argsort()]


def _on_device(ends: Tensor, name: str, tensors: list[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on the device; copied once, however many layers ask."""
    if (known := getattr(ends, name, None)) is None:
        known = move_together(tensors, device)
        setattr(ends, name, known)
    return known
