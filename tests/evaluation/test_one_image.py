"""Questions that share an image are answered as if each were asked alone, and the image is encoded once."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from tests.evaluation import toy
from tokenizers.pre_tokenizers import ByteLevel, Metaspace, Sequence
from torch import nn

from sightline.config import ModelConfig
from sightline.data.media.images import LazyImage
from sightline.data.render.render import Renderer
from sightline.evaluation.models import Loaded
from sightline.evaluation.one_image import JOINTS, Renders, answer, can_read_in_parts
from sightline.evaluation.run import evaluate
from sightline.generation.generate import generate
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor
from sightline.types import Example

QUESTIONS = ("Yes or no?", "Is there a red square in this image? 1 2 3", "What is shown?", "Describe the image.")


@pytest.fixture(scope="module")
def load(tiny_model: Callable[[str], Path]) -> Callable[[str], Loaded]:
    def loaded(family: str) -> Loaded:
        config = ModelConfig(name=str(tiny_model(family)))
        return Loaded(load_model(config), load_processor(config))

    return loaded


def examples(image: Image.Image, num_questions: int) -> list[Example]:
    return [
        Example(
            id=question,
            source="test",
            row_number=row,
            prompt=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},),
            images=(LazyImage(where="test", image=image),),
        )
        for row, question in enumerate(QUESTIONS[:num_questions])
    ]


@pytest.mark.parametrize(
    "family", ["llava", "llava_next", "idefics2", "idefics3", "smolvlm", "qwen2_vl", "mllama", "qwen3_5"]
)
def test_answers_are_those_of_each_question_alone(family: str, load: Callable[[str], Loaded]) -> None:
    model, processor = load(family)
    renders = Renders(Renderer(processor), family_of(model))
    images = [toy.image(1, (40, 90)), toy.image(2, (130, 90)), toy.image(3, (90, 60))]
    asked = [renders.asked(examples(image, n)) for image, n in zip(images, (4, 2, 3), strict=True)]
    assert all(one is not None and can_read_in_parts(renders.family, one, 6) for one in asked)
    together = answer(model, processor, [one for one in asked if one is not None], max_new_tokens=6)
    for image, answers in zip(images, together, strict=True):
        groups = [Renderer(processor).prompt(e) for e in examples(image, len(answers))]
        alone = generate(model, processor, groups, max_new_tokens=6, batch_size=1)
        assert [a.tolist() for a in answers] == [a[0].tolist() for a in alone]


@pytest.mark.parametrize("family", ["mllama", "llava"])
def test_questions_with_and_without_a_image_are_answered_in_one_run(family: str, load: Callable[[str], Loaded]) -> None:
    model, processor = load(family)
    task = toy.task(num_images=3, questions_a_image=2)
    items = [replace(item, images=()) if item.image_id == "image 1" else item for item in task.items]
    alone = [r.answer for item in items for r in evaluate(model, processor, replace(task, items=[item]))]
    assert [r.answer for r in evaluate(model, processor, replace(task, items=items))] == alone


def test_the_image_goes_through_processor_and_tower_once(
    load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load("llava")
    opened, encoded = [], []
    monkeypatch.setattr(LazyImage, "open", lambda self: opened.append(self) or self.image)
    model.model.vision_tower.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    records = evaluate(model, processor, toy.task(num_images=5, questions_a_image=3), batch_size=32)
    assert len(records) == 15
    assert sum(encoded) == 5
    # one for each image, and the first image's other two questions to see that splitting is exact
    assert len(opened) == 5 + 2


@pytest.mark.parametrize("family", ["paligemma", "paligemma2", "gemma3", "idefics2_window", "qwen3_vl_moe"])
def test_a_model_that_reads_whole_prompts_shares_the_features_of_a_image(
    family: str, load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load(family)
    # a tiny PaliGemma, its head tied to its embeddings, repeats the line break that ends every prompt
    head = model.get_output_embeddings()
    weight = torch.randn(head.weight.shape, generator=torch.Generator().manual_seed(1))
    weight[list(processor.tokenizer.get_added_vocab().values())] = 0  # words are likelier than special tokens
    head.weight = nn.Parameter(weight)
    task = toy.task(num_images=4, questions_a_image=3)
    alone = [record.answer for item in task.items for record in evaluate(model, processor, replace(task, items=[item]))]
    encoded, opened = _count_images(model), []
    monkeypatch.setattr(LazyImage, "open", lambda self: opened.append(self) or self.image)
    together = [record.answer for record in evaluate(model, processor, task, batch_size=5)]
    assert together == alone
    assert len(set(alone)) >= 3, "these answers would be equal whatever the model sees"
    assert encoded() == 4
    # one for each image, and the first image's other two questions to see that splitting is exact
    assert len(opened) == 4 + 2


def _count_images(model: nn.Module) -> Callable[[], int]:
    """How many images have gone through the tower since."""
    family, counts = family_of(model), []
    tower = family.model.get_submodule(family.vision_name)

    def count(module: nn.Module, arguments: tuple, options: dict[str, Any]) -> None:
        grids = options.get("grid_thw")
        pixels = arguments[0] if arguments else options.get("pixel_values")
        counts.append(len(grids) if grids is not None else len(pixels))

    tower.register_forward_pre_hook(count, with_kwargs=True)
    return lambda: sum(counts)


def test_a_window_is_no_hindrance_while_everything_is_in_it(load: Callable[[str], Loaded]) -> None:
    model, processor = load("idefics2_window")
    window = family_of(model).text_config.sliding_window
    renders = Renders(Renderer(processor), family_of(model))
    asked = renders.asked(examples(toy.image(1), 2))
    assert asked is not None
    length = len(asked.shared.prompt_ids) + max(map(len, asked.rests))
    assert length > window and not can_read_in_parts(renders.family, asked, 4)
    model.config.get_text_config().sliding_window = length + 5
    try:
        assert can_read_in_parts(renders.family, asked, 4) and not can_read_in_parts(renders.family, asked, 5)
        (together,) = answer(model, processor, [asked], max_new_tokens=4)
        alone = generate(model, processor, renders.prompts(asked), max_new_tokens=4, batch_size=1)
        assert [a.tolist() for a in together] == [a[0].tolist() for a in alone]
    finally:
        model.config.get_text_config().sliding_window = window


def test_prompts_that_cannot_be_split_are_asked_apart(load: Callable[[str], Loaded]) -> None:
    model, processor = load("llava")
    renders = Renders(Renderer(processor), family_of(model))
    text_only = [Example(**{**vars(e), "images": ()}) for e in examples(toy.image(1), 2)]
    assert renders.asked(text_only) is None
    control = examples(toy.image(1), 2)
    control[1].prompt[0]["content"][1]["text"] = "<|im_end|>"
    assert renders.asked(control) is None
    assert renders.joints == JOINTS, "nothing was learned of whether prompts can be split"


def test_a_tokenizer_that_reads_the_rest_otherwise_is_noticed(tiny_model: Callable[[str], Path]) -> None:
    """As Llama's do: what stands at the very beginning of a text gets a space in front."""
    config = ModelConfig(name=str(tiny_model("llava")))
    model, processor = load_model(config), load_processor(config)
    spaced = [Metaspace(prepend_scheme="first"), ByteLevel(add_prefix_space=False)]
    processor.tokenizer.backend_tokenizer.pre_tokenizer = Sequence(spaced)
    renders = Renders(Renderer(processor), family_of(model))
    assert renders.asked(examples(toy.image(1), 2)) is None
    assert renders.joints == ()


def test_padding_between_image_and_question_is_seen_by_nobody(load: Callable[[str], Loaded]) -> None:
    model, processor = load("qwen2_vl")
    renders = Renders(Renderer(processor), family_of(model))
    asked = renders.asked(examples(toy.image(2, (130, 90)), 4))
    assert asked is not None
    alone = [
        answer(model, processor, [type(asked)(shared=asked.shared, rests=(rest,))], max_new_tokens=5)
        for rest in asked.rests
    ]
    together = answer(model, processor, [asked], max_new_tokens=5)
    assert all(torch.equal(a[0][0], b) for a, b in zip(alone, together[0], strict=True))
