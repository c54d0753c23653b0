"""What a model's processor would make of a picture of a given size: tensors of the right shapes, filled with ones, and
how many tokens the picture becomes.

For models whose processor is not at hand. The rules are those of transformers' image processors, with the settings
that the models are published with; a recipe's `model.processor` options change them here as they do there.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import PretrainedConfig
from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import get_optimal_tiled_canvas
from transformers.models.llava_next.modeling_llava_next import (
    get_anyres_image_grid_shape,
    image_size_to_num_patches,
    unpad_image,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import smart_resize

from sightline.errors import ModelError


class Picture(NamedTuple):
    """A picture's size in pixels."""

    width: int
    height: int


class Prepared(NamedTuple):
    """The processor's inputs for one picture, by the names that the model's family knows; its tokens in a prompt."""

    inputs: dict[str, Any]
    num_tokens: int


def prepare_picture(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """What the processor makes of one picture.

    options: of `model.processor` (`longest_edge`, `max_pixels`, `do_image_splitting`, …).
    Raises ModelError for a kind of model whose processor's rules are not known here.
    """
    if config.model_type not in RULES:
        raise ModelError(
            f"How a model of type {config.model_type!r} cuts up pictures is not known without its processor. Give "
            f"`model.name` a folder that holds config.json and the processor's files. Known: {', '.join(RULES)}."
        )
    return RULES[config.model_type](config, picture, options)


def _ones(*shape: int) -> Tensor:
    # expanded, so that it takes no memory of its own
    return torch.ones(()).expand(shape)


def _square(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """LLaVA, PaliGemma, Gemma 3: every picture is brought to one size."""
    side = config.vision_config.image_size
    patches = (side // config.vision_config.patch_size) ** 2
    return Prepared({"pixel_values": _ones(1, 3, side, side)}, getattr(config, "mm_tokens_per_image", patches))


def _llava_next(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    side = config.vision_config.image_size
    size = [picture.height, picture.width]
    tiles = image_size_to_num_patches(size, config.image_grid_pinpoints, side)
    patches = side // config.vision_config.patch_size
    rows, columns = get_anyres_image_grid_shape(size, config.image_grid_pinpoints, side)
    # what lies over the edges of the picture is cut off; every row ends with a token of its own
    height, width = unpad_image(_ones(1, rows * patches, columns * patches), size).shape[1:]
    inputs = {"pixel_values": _ones(1, tiles, 3, side, side), "image_sizes": torch.tensor([size])}
    return Prepared(inputs, patches**2 + height * (width + 1))


def _idefics2(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """The longest edge is at most 980, the shortest at least 378; splitting adds the four quarters."""
    longest, shortest = options.get("longest_edge", 980), options.get("shortest_edge", 378)
    scale = max(min(1.0, longest / max(picture)), min(shortest / min(picture), longest / max(picture)))
    width, height = (max(1, round(edge * scale)) for edge in picture)
    count = 5 if options.get("do_image_splitting", True) else 1
    mask = torch.ones(1, count, height, width, dtype=torch.long)
    inputs = {"pixel_values": _ones(1, count, 3, height, width), "pixel_attention_mask": mask}
    return Prepared(inputs, count * config.perceiver_config.resampler_n_latents)


def _idefics3(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """The longest edge becomes four tiles long; then tiles, and the whole picture as one more."""
    side = config.vision_config.image_size
    longest = options.get("longest_edge", 4 * side)
    columns, rows = (math.ceil(edge * longest / max(picture) / side) for edge in picture)
    tiles = columns * rows + 1 if options.get("do_image_splitting", True) and columns * rows > 1 else 1
    mask = torch.ones(1, tiles, side, side, dtype=torch.long)
    inputs = {"pixel_values": _ones(1, tiles, 3, side, side), "pixel_attention_mask": mask}
    return Prepared(inputs, tiles * (side // config.vision_config.patch_size // config.scale_factor) ** 2)


def _internvl(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """The grid of at most 12 tiles that fits best, and the whole picture as one more."""
    height, width = config.vision_config.image_size
    tiles = 1
    if options.get("crop_to_patches", True):
        size, tile = (picture.height, picture.width), (height, width)
        columns, rows = get_optimal_tiled_canvas(
            size, tile, options.get("min_patches", 1), options.get("max_patches", 12)
        )
        tiles = columns * rows + (1 if columns * rows > 1 else 0)
    return Prepared({"pixel_values": _ones(tiles, 3, height, width)}, tiles * config.image_seq_length)


def _mllama(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """Always as many tiles as there can be: the missing ones are filled up."""
    vision = config.vision_config
    tiles = options.get("max_image_tiles", vision.max_num_tiles)
    inputs = {
        "pixel_values": _ones(1, 1, tiles, 3, vision.image_size, vision.image_size),
        "aspect_ratio_ids": torch.ones(1, 1, dtype=torch.long),
        "aspect_ratio_mask": torch.ones(1, 1, tiles, dtype=torch.long),
    }
    return Prepared(inputs, 1)


def _qwen(config: PretrainedConfig, picture: Picture, options: dict[str, Any]) -> Prepared:
    """Both edges in whole patches, the area within limits."""
    vision = config.vision_config
    smallest, largest = (2**16, 2**24) if "qwen3" in config.model_type else (56 * 56, 14 * 14 * 4 * 16384)
    height, width = smart_resize(
        picture.height,
        picture.width,
        factor=vision.patch_size * vision.spatial_merge_size,
        min_pixels=options.get("min_pixels", options.get("shortest_edge", smallest)),
        max_pixels=options.get("max_pixels", options.get("longest_edge", largest)),
    )
    rows, columns = height // vision.patch_size, width // vision.patch_size
    values = 3 * vision.temporal_patch_size * vision.patch_size**2
    inputs = {"pixel_values": _ones(rows * columns, values), "image_grid_thw": torch.tensor([[1, rows, columns]])}
    return Prepared(inputs, rows * columns // vision.spatial_merge_size**2)


RULES: dict[str, Callable[[PretrainedConfig, Picture, dict[str, Any]], Prepared]] = {
    "gemma3": _square,
    "idefics2": _idefics2,
    "idefics3": _idefics3,
    "internvl": _internvl,
    "llava": _square,
    "llava_next": _llava_next,
    "mllama": _mllama,
    "paligemma": _square,
    "qwen2_5_vl": _qwen,
    "qwen2_vl": _qwen,
    "qwen3_5": _qwen,
    "qwen3_vl": _qwen,
    "smolvlm": _idefics3,
}
"""By the `model_type` of config.json."""
