"""Settings of an image processor that no image could be read with, or that would make numbers of no meaning."""

import math
from collections.abc import Mapping
from typing import Any

from transformers import ProcessorMixin
from transformers.image_utils import SizeDict

from sightline.errors import ModelError, shown

LONGEST_SIDE = 2**14
"""Pixels of a side that images are made to fit; models read some hundreds."""
MOST_PIXELS = 2**28
"""Of an edge's setting: some families (Qwen-VL) keep a number of pixels there."""
SIZES = ("size", "crop_size", "pad_size", "max_image_size")


def check_images(processor: ProcessorMixin, name: str) -> None:
    """Raises `ModelError` for the first setting of the image processor that cannot be. name: of the model."""
    images = getattr(processor, "image_processor", None)
    if images is None:
        return
    for key, value in vars(images).items():
        expected = None if value is None else _expected(key, value)
        if expected is not None:
            raise ModelError(
                f"The image processor of {shown(name)!r} has `{key}: {shown(value)}`; expected is {expected}. Copy "
                "preprocessor_config.json (or processor_config.json) from the model's source."
            )
    for key in SIZES:
        size = getattr(images, key, None)
        for side, value in dict(size).items() if isinstance(size, Mapping | SizeDict) else []:
            most = LONGEST_SIDE if side in ("height", "width", "max_height", "max_width") else MOST_PIXELS
            if value is not None and not (_is_whole(value) and 1 <= value <= most):
                raise ModelError(
                    f"The image processor of {shown(name)!r} has `{key}.{side}: {shown(value)}`; expected is a whole "
                    f"number from 1 to {most:,}. Copy preprocessor_config.json (or processor_config.json) from the "
                    "model's source."
                )


def _expected(key: str, value: Any) -> str | None:
    """What a setting should be, or None where it is."""
    if key.startswith("do_"):
        return None if isinstance(value, bool) else "true or false"
    if key == "rescale_factor":
        return None if _are_numbers([value]) and value > 0 else "a number above 0"
    if key == "image_mean":
        return None if _are_numbers(_listed(value)) else "a number for each channel"
    if key == "image_std":
        numbers = _listed(value)
        return None if _are_numbers(numbers) and min(numbers) > 0 else "a number above 0 for each channel"
    if key in ("patch_size", "merge_size", "temporal_patch_size") and isinstance(value, str | int | float):
        whole = isinstance(value, int) and _is_whole(value) and 1 <= value <= LONGEST_SIDE
        return None if whole else "a whole number above 0"
    return None


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list | tuple) else [value]


def _is_whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _are_numbers(values: list[Any]) -> bool:
    kinds = [isinstance(value, int | float) and not isinstance(value, bool) for value in values]
    return bool(kinds) and all(kinds) and all(math.isfinite(value) for value in values)
