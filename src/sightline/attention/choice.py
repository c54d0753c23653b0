"""Which attention kernel serves a device, a precision and a head: decided from what they are, never by trying.

docs/models.md says what that comes to for each family.
"""

from dataclasses import dataclass
from functools import cache

import torch

from sightline.attention.attention import Kernel
from sightline.attention.cpu import CpuKernel
from sightline.attention.varlen import VarlenKernel

HALF = (torch.bfloat16, torch.float16)
LARGEST_HEAD = 256
SMALL_CHIPS = ((8, 6), (8, 9), (12, 0), (12, 1))
"""Compute capabilities with too little shared memory for the backward of heads of 200 to 224."""


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A kernel, or None for a dense mask; why, for messages."""

    kernel: Kernel | None
    why: str

    def __str__(self) -> str:
        return f"{self.kernel.name}, {self.why}" if self.kernel else f"dense mask, because {self.why}"


def choose(device: torch.device, dtype: torch.dtype, head_size: int) -> Choice:
    """The kernel without a mask for queries of this dtype and size of head on this device.

    dtype: as the kernel gets them, after autocast.
    """
    if device.type == "cpu":
        return _chosen(CpuKernel())
    if device.type != "cuda":
        return Choice(kernel=None, why=f"there is no kernel of shared prefixes for {device.type}")
    index = device.index or 0
    refused = _device_refuses(index) or states_refused(dtype, head_size, capability(index))
    return _chosen(VarlenKernel()) if refused is None else Choice(kernel=None, why=refused)


def _chosen(kernel: Kernel) -> Choice:
    return Choice(kernel=kernel, why=kernel.how)


@cache
def capability(index: int) -> tuple[int, int]:
    """(major, minor) of a CUDA device."""
    return torch.cuda.get_device_capability(index)


def _device_refuses(index: int) -> str | None:
    if torch.version.hip is not None:
        return "its kernel was never tried on ROCm"
    if not torch.backends.cuda.is_flash_attention_available():
        return "this torch was built without FlashAttention"
    if capability(index) < (8, 0):
        major, minor = capability(index)
        return f"FlashAttention needs compute capability 8.0 (Ampere), this GPU has {major}.{minor}"
    return None


def states_refused(dtype: torch.dtype, head_size: int, chip: tuple[int, int]) -> str | None:
    """What speaks against FlashAttention on such states and a chip of this compute capability; None for nothing."""
    if dtype not in HALF:
        return f"FlashAttention takes bfloat16 and float16, not {str(dtype).removeprefix('torch.')}"
    if head_size % 8 or head_size > LARGEST_HEAD:
        return f"FlashAttention takes heads of a multiple of 8 up to {LARGEST_HEAD}, not {head_size}"
    if 192 < head_size <= 224 and chip in SMALL_CHIPS:
        return f"FlashAttention has no backward for heads of {head_size} on compute capability {chip[0]}.{chip[1]}"
    return None
