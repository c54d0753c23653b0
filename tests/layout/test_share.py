"""Groups of one image become one."""

from dataclasses import replace

import torch

from sightline.layout import share_prefix
from sightline.types import Columns, Group
from tests.layout.written import write_group

IMAGE = 99


def asked(question: list[int], *responses: list[int], pixels: float = 1.0, image_first: bool = True) -> Group:
    """`<image> question`, as a renderer gives it: not placed, with pixels and token types."""
    prompt = [1, IMAGE, IMAGE, *question, 2] if image_first else [1, *question, IMAGE, IMAGE, 2]
    types = torch.tensor([[int(token == IMAGE) for token in prompt]])
    group = write_group(prompt, *responses)
    inputs = {"pixel_values": torch.full((1, 3, 4, 4), pixels), "mm_token_type_ids": types}
    return replace(group, positions=None, block=None, next_position=0, model_inputs=inputs, rows=({"q": question},))


def test_the_common_prefix_is_the_prompt_and_the_rest_goes_in_front_with_weight_zero() -> None:
    shared = share_prefix([asked([5, 6], [20], [21]), asked([5, 7, 8], [22, 23])], [IMAGE])
    assert shared is not None
    assert shared.prompt_ids.tolist() == [1, IMAGE, IMAGE, 5]
    assert [r.tolist() for r in shared.responses] == [[6, 2, 20], [6, 2, 21], [7, 8, 2, 22, 23]]
    assert [w.tolist() for w in shared.weights] == [[0, 0, 1], [0, 0, 1], [0, 0, 0, 1, 1]]
    assert shared.rows == ({"q": [5, 6]}, {"q": [5, 7, 8]})


def test_inputs_along_the_prompt_are_cut_and_pixels_kept_once() -> None:
    groups = [asked([5, 6], [20]), asked([7], [22])]
    shared = share_prefix(groups, [IMAGE])
    assert shared is not None
    assert shared.model_inputs["mm_token_type_ids"].tolist() == [[0, 1, 1]]
    assert shared.model_inputs["pixel_values"].shape == (1, 3, 4, 4)


def test_labels_of_all_responses_are_joined() -> None:
    labelled = [
        replace(asked([5 + i], [20]), columns=Columns(label=torch.tensor([label])))
        for i, label in enumerate([True, False])
    ]
    shared = share_prefix(labelled, [IMAGE])
    assert shared is not None and shared.columns.label is not None
    assert shared.columns.label.tolist() == [True, False]


def test_equal_prompts_share_everything() -> None:
    shared = share_prefix([asked([5], [20]), asked([5], [21])], [IMAGE])
    assert shared is not None
    assert shared.prompt_ids.tolist() == [1, IMAGE, IMAGE, 5, 2]
    assert [r.tolist() for r in shared.responses] == [[20], [21]]


def test_another_image_is_not_shared() -> None:
    assert share_prefix([asked([5], [20]), asked([5], [21], pixels=2.0)], [IMAGE]) is None


def test_a_question_before_its_image_is_not_shared() -> None:
    groups = [asked([5], [20], image_first=False), asked([6], [21], image_first=False)]
    assert share_prefix(groups, [IMAGE]) is None
