"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: positions on three axes (time, height, width), from the images' grids."""

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor
from transformers import PreTrainedModel

from sightline.attention import windows
from sightline.models.families.family import Family, Pieces
from sightline.models.families.hybrid import HybridFamily
from sightline.models.unwrap import forward_classes
from sightline.transfer import move_together
from sightline.types import Group

FROM_GRIDS = (
    "get_vision_position_ids",
    "get_vision_window_index",
    "get_vision_interpolation_indices_and_weights",
)
"""What a tower's file makes of images' grids, by transformers' names, for its layers to index with."""


class QwenFamily(Family):
    """Every response starts after the largest position of the prompt, on all three axes.

    The grids of images stay on the host: the tower computes places and ends of windows from them in Python.
    """

    on_host: ClassVar[frozenset[str]] = frozenset({"image_grid_thw"})

    def encode(self, groups: list[Group]) -> list[Pieces]:
        with _windows_together(self.model), _places_on(self.model):
            return super().encode(groups)


@contextmanager
def _windows_together(model: PreTrainedModel) -> Iterator[None]:
    """Within, the tower's windows go through attention in few calls. A tower that trains keeps one for each: what is
    recomputed in backward must call what forward called."""
    config = model.get_encoder("image").config
    if config._attn_implementation != "sdpa" or torch.is_grad_enabled():
        yield
        return
    # past transformers' setter, which would look for a library of this name
    config._attn_implementation_internal = windows.NAME
    try:
        yield
    finally:
        config._attn_implementation_internal = "sdpa"


@contextmanager
def _places_on(model: PreTrainedModel) -> Iterator[None]:
    """Within, what the tower makes of grids on the host comes out where the model is; ends of windows stay."""
    module: Any = sys.modules[forward_classes(type(model))[0].__module__]
    device, named = model.device, [name for name in FROM_GRIDS if hasattr(module, name)]
    if device.type == "cpu":
        yield
        return
    usual = {name: getattr(module, name) for name in named}
    for name, compute in usual.items():
        setattr(module, name, _moving(compute, device))
    try:
        yield
    finally:
        for name, compute in usual.items():
            setattr(module, name, compute)


def _moving(compute: Callable[..., Any], device: torch.device) -> Callable[..., Any]:
    def moved(*arguments: Any, **options: Any) -> Any:
        found = compute(*arguments, **options)
        if isinstance(found, Tensor):
            return move_together([found], device)[0]
        # cumulative ends are int32, places and weights are not
        away = [one for one in found if one.dtype != torch.int32]
        there = iter(move_together(away, device))
        return tuple(one if one.dtype == torch.int32 else next(there) for one in found)

    return moved


class QwenHybridFamily(HybridFamily, QwenFamily):
    """Qwen3.5: most layers are gated delta nets."""
