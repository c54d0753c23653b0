"""MiniCPM-V and MiniCPM OCR: the pixels of all images lie one after another along the last axis, sizes beside them."""

from typing import Any, ClassVar

import torch

from sightline.models.families.hybrid import HybridFamily


class MiniCPMFamily(HybridFamily):
    """On Qwen3.5's language model. Pixels of several prompts are joined along their last axis, all else as usual."""

    along_images: ClassVar[tuple[str, ...]] = ("target_sizes",)

    def concatenate(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rest = [{name: value for name, value in one.items() if name != "pixel_values"} for one in inputs]
        pixels = [one["pixel_values"] for one in inputs if "pixel_values" in one]
        return {**super().concatenate(rest), **({"pixel_values": torch.cat(pixels, -1)} if pixels else {})}
