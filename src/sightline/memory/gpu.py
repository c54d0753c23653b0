"""How much memory a GPU has."""

import re

import torch

from sightline.errors import RecipeError

UNITS = {"mb": 10**6, "gb": 10**9, "mib": 2**20, "gib": 2**30}


def read_size(text: str) -> int:
    """`80GB` → bytes. Raises RecipeError.

    GB are 10⁹ bytes: a card sold as 80 GB has some 85 × 10⁹, and the rest is room for the allocator's gaps.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([kmgt]i?b)?\s*", text.lower())
    unit = (found and found[2]) or "gb"
    if found is None or unit not in UNITS:
        raise RecipeError(f"`--gpu {text}` is no size of a GPU's memory. Write `--gpu 80GB` or `--gpu 24GiB`.")
    return int(float(found[1]) * UNITS[unit])


def memory_here() -> int | None:
    """Bytes of this machine's first GPU, None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
