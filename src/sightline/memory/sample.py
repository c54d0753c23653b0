"""A typical group of a recipe: what one row would be after tokenising, from numbers alone or through a processor."""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from transformers import ProcessorMixin

from sightline.config import ModelConfig, Recipe, TransformersSamplerConfig
from sightline.data.media.images import LazyPicture
from sightline.data.render.render import Renderer
from sightline.memory.image_tokens import Picture, prepare_picture
from sightline.models.families.family import Family
from sightline.models.load import EMBEDDED
from sightline.objectives.objective import build
from sightline.types import Example, Group

TYPICAL = Picture(1024, 768)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a row is. text_tokens: of the prompt, around its picture. responses: K, of response_tokens each."""

    picture: Picture = TYPICAL
    text_tokens: int = 64
    response_tokens: int = 256
    num_responses: int = 2


def usual_sizes(recipe: Recipe) -> Sizes:
    """A row of usual size; sampled answers as many and as long as the recipe's sampler lets them be."""
    number = build(recipe.objective).num_responses
    if number == 0:
        sampling = recipe.sampler or TransformersSamplerConfig()  # pyright: ignore[reportCallIssue]
        return Sizes(num_responses=sampling.num_generations, response_tokens=sampling.max_completion_length)
    return Sizes(num_responses=number or 2)


def made_up_group(family: Family, sizes: Sizes, options: dict[str, Any]) -> Group:
    """A group of these sizes with one picture, placed; `options` are those of `model.processor`."""
    prepared = prepare_picture(family.config, sizes.picture, options)
    ids = torch.full((prepared.num_tokens + sizes.text_tokens,), _text_id(family))
    ids[1 : prepared.num_tokens + 1] = family.image_token_ids[0]
    return family.place(_group(ids, prepared.inputs | _along_tokens(family, ids), sizes))


def has_processor(model: ModelConfig) -> bool:
    """Whether the model is a folder on this machine that holds its processor."""
    folder = EMBEDDED if model.name == "embedded" else Path(model.name)
    return any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))


def rendered_group(family: Family, processor: ProcessorMixin, sizes: Sizes) -> Group:
    """The same through the model's own processor and chat template."""
    text = " a" * sizes.text_tokens
    picture = LazyPicture(image=Image.new("RGB", sizes.picture), where="a picture of one colour")
    example = Example(
        id="sample",
        source="sample",
        row_number=0,
        prompt=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]},),
        images=(picture,),
    )
    group = Renderer(processor).prompt(example)
    return family.place(_group(group.prompt_ids, group.model_inputs, sizes))


def _group(ids: torch.Tensor, inputs: dict[str, Any], sizes: Sizes) -> Group:
    answers = tuple(torch.zeros(sizes.response_tokens, dtype=torch.long) for _ in range(sizes.num_responses))
    weights = tuple(torch.ones(sizes.response_tokens) for _ in answers)
    return Group(id="sample", prompt_ids=ids, responses=answers, weights=weights, model_inputs=inputs)


def _along_tokens(family: Family, ids: torch.Tensor) -> dict[str, torch.Tensor]:
    stands_for_picture = torch.isin(ids, torch.tensor(family.image_token_ids)).long()[None]
    if family.name == "mllama":
        tiles = family.config.vision_config.max_num_tiles
        return {"cross_attention_mask": torch.ones(1, len(ids), 1, tiles, dtype=torch.long)}
    read = inspect.signature(family.model.forward).parameters
    return {name: stands_for_picture for name in family.along_tokens if name in read}


def _text_id(family: Family) -> int:
    taken = set(family.image_token_ids)
    return next(i for i in range(len(taken) + 1) if i not in taken)
