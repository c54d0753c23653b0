"""A made-up row is what the model's own processor makes of a real image of that size."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data
from transformers import PretrainedConfig

from sightline.config import ModelConfig, Recipe
from sightline.errors import ModelError
from sightline.memory.sample import ImageSize, Sizes, made_up_group
from sightline.memory.shapes import read_shape
from sightline.memory.skeleton import build_skeleton
from sightline.models.families.family import Family
from sightline.models.families.find import family_of
from sightline.models.families.published import PUBLISHED, published_processor
from sightline.models.load import load_processor, read_config

TINY_TILES = {"longest_edge": 112}
OPTIONS = {
    "idefics2": {"longest_edge": 56, "shortest_edge": 28, "do_image_splitting": False},
    "idefics3": TINY_TILES,
    "smolvlm": TINY_TILES,
    "internvl": {"max_patches": 4},
    "qwen2_vl": {"shortest_edge": 28**2, "longest_edge": 112**2},
    "qwen2_5_vl": {"min_pixels": 28**2, "max_pixels": 112**2},
    "qwen3_vl": {"min_pixels": 32**2, "max_pixels": 128**2},
    "qwen3_vl_moe": {"min_pixels": 32**2, "max_pixels": 128**2},
    "qwen3_5": {"min_pixels": 32**2, "max_pixels": 128**2},
    "qwen3_5_moe": {"min_pixels": 32**2, "max_pixels": 128**2},
}
"""What a recipe would have to set for a published processor to be a tiny model's."""
SIZES = [(112, 70), (37, 301), (211, 53), (299, 223), (17, 19)]


def family(config: PretrainedConfig, folder: str) -> Family:
    return family_of(build_skeleton(config, Recipe(model=ModelConfig(name=folder))).policy)


@pytest.mark.parametrize("kind", sorted(set(PUBLISHED) - {"gemma4"}))  # its tiny model is none of a published config
def test_images_of_odd_sizes_become_what_the_models_own_processor_makes_of_them(
    tiny_model: Callable[[str], Path], kind: str
) -> None:
    model = ModelConfig(name=str(tiny_model(kind)))
    processor, config = load_processor(model), read_config(model)
    photograph = Image.fromarray(data.coffee())
    counts = set()
    for width, height in SIZES:
        real = processor(
            text=[processor.image_token], images=[[photograph.crop((0, 0, width, height))]], return_tensors="pt"
        )
        sizes = Sizes(image=ImageSize(width, height), text_tokens=0)
        group = made_up_group(family(config, model.name), sizes, OPTIONS.get(kind, {}))
        for name, value in group.model_inputs.items():
            along_prompt = value.shape[1] == len(group.prompt_ids)
            assert along_prompt or value.shape == real[name].shape, (name, width, height)
        ids = torch.tensor(family(config, model.name).image_token_ids)
        assert torch.isin(group.prompt_ids, ids).sum() == torch.isin(real["input_ids"], ids).sum()
        # a tokenizer may read two line breaks, of which there are two at most, as one token or as two
        assert 0 <= real["input_ids"].shape[1] - len(group.prompt_ids) <= 2
        counts.add(len(group.prompt_ids))
    assert len(counts) > 1 or kind in ("llava", "gemma3", "mllama", "paligemma", "idefics2")


@pytest.mark.parametrize(
    ("shape", "size", "num_tokens"),
    [
        ("llava-1.5-7b", (1024, 768), 576),
        ("gemma-4-e4b-it", (1024, 768), 19 * 14),  # of 48 × 48 pixels each, 280 at most
        ("idefics2-8b", (1024, 768), 5 * 64),
        ("idefics3-8b-llama3", (1024, 768), (4 * 3 + 1) * 169),
        ("smolvlm-instruct", (1024, 768), (4 * 3 + 1) * 81),
        ("internvl3-8b", (1024, 768), (4 * 3 + 1) * 256),
        ("gemma-3-4b-it", (1024, 768), 256),
        ("paligemma-3b-448", (1024, 768), 1024),
        ("qwen2.5-vl-7b-instruct", (1036, 756), 37 * 27),
        ("qwen3-vl-8b-instruct", (1024, 768), 32 * 24),
        ("llama-3.2-11b-vision-instruct", (1024, 768), 1),
    ],
)
def test_published_settings_give_the_tokens_that_model_cards_name(
    shape: str, size: tuple[int, int], num_tokens: int
) -> None:
    processor = published_processor(read_shape(shape), {})
    inputs = processor(text=[processor.image_token], images=[[Image.new("RGB", size)]], return_tensors="pt")
    assert int((inputs["input_ids"] == processor.tokenizer.image_token_id).sum()) == num_tokens


def test_an_unknown_kind_of_model_and_an_unknown_option_are_refused() -> None:
    with pytest.raises(ModelError, match=r"type 'vipllava' cuts up images .* Known: gemma3, gemma4, idefics2"):
        published_processor(PretrainedConfig(model_type="vipllava"), {})
    with pytest.raises(ModelError, match="LlavaProcessor does not know"):
        published_processor(read_shape("llava-1.5-7b"), {"do_image_splitting": False})
