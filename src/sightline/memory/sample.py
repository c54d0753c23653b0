"""A typical group of a recipe: what one row would be after tokenising, from numbers alone or through a processor."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from transformers import ProcessorMixin

from sightline.config import ModelConfig, Recipe, TransformersSamplerConfig
from sightline.data.media.images import LazyImage
from sightline.data.render.render import NOT_FOR_THE_MODEL, Renderer
from sightline.models.families.family import Family
from sightline.models.families.published import published_processor
from sightline.models.load import EMBEDDED
from sightline.objectives.objective import build
from sightline.types import Example, Group


class ImageSize(NamedTuple):
    """An image's size in pixels."""

    width: int
    height: int


TYPICAL = ImageSize(1024, 768)


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """How large a row is. text_tokens: of the prompt, around its image. responses: K, of response_tokens each."""

    image: ImageSize = TYPICAL
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
    """A group of these sizes with one image, placed, as the processor that the model is published with makes it.

    options: of `model.processor`. Raises ModelError as `published_processor` does.
    """
    processor = published_processor(family.config, options)
    text = processor.image_token + " a" * sizes.text_tokens
    image = Image.new("RGB", sizes.image)
    inputs = dict(processor(text=[text], images=[[image]], return_tensors="pt"))
    stands_for_image = inputs["input_ids"][0] == processor.tokenizer.image_token_id
    ids = torch.where(stands_for_image, family.image_token_ids[0], _text_id(family))
    kept = {name: _without_data(value) for name, value in inputs.items() if name not in NOT_FOR_THE_MODEL}
    return family.place(_group(ids, kept, sizes))


def has_processor(model: ModelConfig) -> bool:
    """Whether the model is a folder on this machine that holds its processor."""
    folder = EMBEDDED if model.name == "embedded" else Path(model.name)
    return any((folder / name).is_file() for name in ("processor_config.json", "preprocessor_config.json"))


def rendered_group(family: Family, processor: ProcessorMixin, sizes: Sizes) -> Group:
    """The same through the model's own processor and chat template."""
    text = " a" * sizes.text_tokens
    image = LazyImage(image=Image.new("RGB", sizes.image), where="an image of one colour")
    example = Example(
        id="sample",
        source="sample",
        row_number=0,
        prompt=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": text}]},),
        images=(image,),
    )
    group = Renderer(processor).prompt(example)
    return family.place(_group(group.prompt_ids, group.model_inputs, sizes))


def _group(ids: torch.Tensor, inputs: dict[str, Any], sizes: Sizes) -> Group:
    answers = tuple(torch.zeros(sizes.response_tokens, dtype=torch.long) for _ in range(sizes.num_responses))
    weights = tuple(torch.ones(sizes.response_tokens) for _ in answers)
    return Group(id="sample", prompt_ids=ids, responses=answers, weights=weights, model_inputs=inputs)


def _without_data(value: Any) -> Any:
    """Pixels as ones that take no memory."""
    is_pixels = isinstance(value, torch.Tensor) and value.is_floating_point()
    return torch.ones((), dtype=value.dtype).expand(value.shape) if is_pixels else value


def _text_id(family: Family) -> int:
    taken = set(family.image_token_ids)
    return next(i for i in range(len(taken) + 1) if i not in taken)
