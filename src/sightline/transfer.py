"""From the host to a device without waiting: many tensors in one copy of pinned memory."""

from collections.abc import Sequence

import torch
from torch import Tensor

ALIGNED = 16
"""Bytes at whose multiples each tensor begins."""


def move_together(tensors: Sequence[Tensor], device: torch.device) -> list[Tensor]:
    """The tensors on `device`, in their order; what is there already, and everything on a CPU, is not copied.

    On CUDA they are views of one buffer, which is pinned on the host and copied while the host goes on.
    """
    away = [i for i, one in enumerate(tensors) if one.device.type == "cpu"] if device.type == "cuda" else []
    if not away:
        return [one.to(device) for one in tensors]
    places, size = [], 0
    for i in away:
        places.append(size)
        size += -(-tensors[i].numel() * tensors[i].element_size() // ALIGNED) * ALIGNED
    buffer = torch.empty(size, dtype=torch.uint8, pin_memory=True)
    for i, start in zip(away, places, strict=True):
        _view(buffer, start, tensors[i]).copy_(tensors[i])
    there = buffer.to(device, non_blocking=True)
    copied = {i: _view(there, start, tensors[i]) for i, start in zip(away, places, strict=True)}
    return [copied[i] if i in copied else one.to(device) for i, one in enumerate(tensors)]


def _view(buffer: Tensor, start: int, like: Tensor) -> Tensor:
    """The bytes of the buffer from `start` on as a tensor of the shape and dtype of another."""
    count = like.numel() * like.element_size()
    return buffer[start : start + count].view(like.dtype).view(like.shape)
