"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: positions on three axes (time, height, width), from the images' grids."""

from sightline.models.families.family import Family


class QwenFamily(Family):
    """Every response starts after the largest position of the prompt, on all three axes."""
