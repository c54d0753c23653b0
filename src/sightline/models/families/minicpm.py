"""MiniCPM OCR: the pixels of all images lie one after another along the last axis, with their sizes beside them."""

from typing import Any

import torch

from sightline.models.families.family import Family


class MiniCPMFamily(Family):
    """Pixels of several prompts are joined along their last axis, all else as usual."""

    def concatenate(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        rest = [{name: value for name, value in one.items() if name != "pixel_values"} for one in inputs]
        pixels = [one["pixel_values"] for one in inputs if "pixel_values" in one]
        return {**super().concatenate(rest), **({"pixel_values": torch.cat(pixels, -1)} if pixels else {})}
