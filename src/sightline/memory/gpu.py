"""How much memory a GPU has."""

import re

import torch

from sightline.errors import RecipeError

UNITS = {"m": 10**6, "g": 10**9, "mi": 2**20, "gi": 2**30}


def read_size(text: str) -> int:
    """`80GB`, `80G` or `80` → bytes. Raises RecipeError.

    GB are 10⁹ bytes: a card sold as 80 GB has some 85 × 10⁹, and the rest is room for the allocator's gaps.
    """
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(?:([mg]i?)b?)?\s*", text.lower())
    if found is None or float(found[1]) == 0:
        raise RecipeError(f"`--gpu {text}` is no size of a GPU's memory. Write `--gpu 80GB` or `--gpu 24GiB`.")
    return int(float(found[1]) * UNITS[found[2] or "g"])


def memory_here() -> int | None:
    """Bytes of this machine's first GPU, None where there is none."""
    return torch.cuda.get_device_properties(0).total_memory if torch.cuda.is_available() else None
