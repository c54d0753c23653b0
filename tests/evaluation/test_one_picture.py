"""Questions that share a picture are answered as if each were asked alone, and the picture is encoded once."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from tests.evaluation import toy

from sightline.config import ModelConfig
from sightline.data.pictures import LazyPicture
from sightline.data.render import Renderer
from sightline.evaluation.models import Loaded
from sightline.evaluation.one_picture import Renders, answer, can_share
from sightline.evaluation.run import evaluate
from sightline.policy.families import family_of
from sightline.policy.generate import generate
from sightline.policy.load import load_model, load_processor
from sightline.types import Example

QUESTIONS = ("Yes or no?", "Is there a red square in this image? 1 2 3", "What is shown?", "Describe the picture.")


@pytest.fixture(scope="module")
def load(tiny_model: Callable[[str], Path]) -> Callable[[str], Loaded]:
    def loaded(family: str) -> Loaded:
        config = ModelConfig(name=str(tiny_model(family)))
        return Loaded(load_model(config), load_processor(config))

    return loaded


def examples(picture: Image.Image, num_questions: int) -> list[Example]:
    return [
        Example(
            id=question,
            source="test",
            row=row,
            prompt=({"role": "user", "content": [{"type": "image"}, {"type": "text", "text": question}]},),
            images=(LazyPicture(where="test", image=picture),),
        )
        for row, question in enumerate(QUESTIONS[:num_questions])
    ]


@pytest.mark.parametrize("family", ["llava", "llava_next", "idefics2", "idefics3", "smolvlm", "qwen2_vl"])
def test_answers_are_those_of_each_question_alone(family: str, load: Callable[[str], Loaded]) -> None:
    model, processor = load(family)
    assert can_share(model)
    renders = Renders(Renderer(processor), family_of(model))
    pictures = [toy.picture(1, (40, 90)), toy.picture(2, (130, 90)), toy.picture(3, (90, 60))]
    asked = [renders.asked(examples(picture, n)) for picture, n in zip(pictures, (4, 2, 3), strict=True)]
    assert all(one is not None for one in asked)
    together = answer(model, processor, [one for one in asked if one is not None], max_new_tokens=6)
    for picture, answers in zip(pictures, together, strict=True):
        groups = [Renderer(processor).prompt(e) for e in examples(picture, len(answers))]
        alone = generate(model, processor, groups, max_new_tokens=6, batch_size=1)
        assert [a.tolist() for a in answers] == [a[0].tolist() for a in alone]


def test_the_picture_goes_through_processor_and_tower_once(
    load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load("llava")
    opened, encoded = [], []
    monkeypatch.setattr(LazyPicture, "open", lambda self: opened.append(self) or self.image)
    model.model.vision_tower.register_forward_hook(lambda module, inputs, output: encoded.append(len(inputs[0])))
    records = evaluate(model, processor, toy.task(num_pictures=5, questions_a_picture=3), batch_size=32)
    assert len(records) == 15
    assert sum(encoded) == 5
    # one for each picture, and the first picture's other two questions to see that splitting is exact
    assert len(opened) == 5 + 2


def test_prompts_that_cannot_be_split_are_asked_apart(load: Callable[[str], Loaded]) -> None:
    model, processor = load("llava")
    renders = Renders(Renderer(processor), family_of(model))
    text_only = [Example(**{**vars(e), "images": ()}) for e in examples(toy.picture(1), 2)]
    assert renders.asked(text_only) is None
    control = examples(toy.picture(1), 2)
    control[1].prompt[0]["content"][1]["text"] = "<|im_end|>"
    assert renders.asked(control) is None
    assert renders.joints == ("", " "), "nothing was learned of whether prompts can be split"


def test_a_tokenizer_that_reads_the_rest_otherwise_is_noticed(
    load: Callable[[str], Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, processor = load("llava")
    renders = Renders(Renderer(processor), family_of(model))
    behind = renders._behind_pictures
    monkeypatch.setattr(renders, "_behind_pictures", lambda example: "x" + behind(example))
    assert renders.asked(examples(toy.picture(1), 2)) is None
    assert renders.joints == ()


def test_padding_between_picture_and_question_is_seen_by_nobody(load: Callable[[str], Loaded]) -> None:
    model, processor = load("qwen2_vl")
    renders = Renders(Renderer(processor), family_of(model))
    asked = renders.asked(examples(toy.picture(2, (130, 90)), 4))
    assert asked is not None
    alone = [
        answer(model, processor, [type(asked)(shared=asked.shared, rests=(rest,))], max_new_tokens=5)
        for rest in asked.rests
    ]
    together = answer(model, processor, [asked], max_new_tokens=5)
    assert all(torch.equal(a[0][0], b) for a, b in zip(alone, together[0], strict=True))
