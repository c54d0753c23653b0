"""Answers judged claim by claim: by the policy's own log-probs, and by a server that may talk nonsense or be gone."""

import json

import numpy as np
import pytest
import torch
from PIL import Image

from sightline.data.media.images import LazyImage
from sightline.data.render.render import Renderer
from sightline.errors import RecipeError, RewardError
from sightline.forward.plain import log_probs
from sightline.rewards.completions import Images
from sightline.rewards.find import find_function
from sightline.rewards.verdicts import Questions, YesOrNo, without_repeats
from sightline.scoring.remembered import Remembered
from tests.judge_server import server  # noqa: F401

ASKED = ["Is there a fox?", "Is the square blue?", "Is this a dog over a circle?"]


def picture(seed: int) -> LazyImage:
    pixels = np.random.default_rng(seed).integers(0, 255, (50, 70, 3), dtype=np.uint8)
    return LazyImage(where="test", image=Image.fromarray(pixels))


def called(function, texts, images, **more):
    logged: dict = {}
    scores = function(
        texts,
        prompts=[""] * len(texts),
        images=images,
        log_extra=logged.__setitem__,
        log_metric=lambda *_: None,
        **more,
    )
    return scores, logged


@pytest.mark.parametrize("family", ["llava", "paligemma", "qwen2_vl"])
def test_the_probability_of_yes_is_that_of_two_plain_forwards(loaded, family):
    model, processor, _ = loaded(family)
    asks = YesOrNo(model=model, processor=processor, yes="yes", no="no")
    asked = [Questions(images=(picture(i),), texts=tuple(ASKED[: i + 1])) for i in range(3)]
    found = asks.probabilities(asked)
    renderer = Renderer(processor)
    for one, probabilities in zip(asked, found, strict=True):
        for text, probability in zip(one.texts, probabilities, strict=True):
            yes, no = log_probs(model, renderer.group(asks._example(one, text)), model.config.model_type)
            assert probability == pytest.approx(torch.sigmoid(yes.sum() - no.sum()).item(), abs=1e-4)


def test_a_claim_that_no_prompt_may_hold_is_not_judged(loaded):
    model, processor, _ = loaded("llava")
    check = find_function("self_check", {"split": "phrases", "question": "Is there {claim}?", "answers": ["yes", "no"]})
    check.attach(model, processor)
    scores, logged = called(check, ["a fox and a <image>", "<image>"], [Images((picture(0),))] * 2)
    held = [one["held"] for one in json.loads(logged["self_check"][0])]
    assert held[1] is None and scores == [held[0], None]


def test_the_same_question_about_the_same_images_is_asked_once():
    first, second = (picture(0),), (picture(1),)
    asked = [Questions(images=images, texts=texts) for images, texts in
             ((first, ("a?", "b?")), (second, ("a?",)), (first, ("b?", "c?")), (first, ()))]  # fmt: skip
    once, where = without_repeats(asked)
    assert [one.texts for one in once] == [("a?", "b?", "c?"), ("a?",)]
    assert where == [[(0, 0), (0, 1)], [(1, 0)], [(0, 1), (0, 2)], []]


def test_the_policy_judges_itself_by_the_mean_probability_of_its_claims(loaded):
    model, processor, _ = loaded("llava")
    check = find_function("self_check", {"split": "phrases", "question": "Is there {claim}?", "answers": ["yes", "no"]})
    check.attach(model, processor)
    scores, logged = called(check, ["a fox and a dog", ""], [Images((picture(0),)), Images((picture(1),))])
    claims = json.loads(logged["self_check"][0])
    assert [one["claim"] for one in claims] == ["a fox", "a dog"]
    assert scores == [pytest.approx(np.mean([one["held"] for one in claims])), None]
    share = find_function("claims", {"split": "phrases", "question": "Is there {claim}?", "answers": ["yes", "no"]})
    share.attach(model, processor)
    shares, _ = called(share, ["a fox and a dog"], [Images((picture(0),))])
    assert shares == [np.mean([one["held"] >= 0.5 for one in claims])]


def test_a_server_is_asked_again_where_it_says_neither_and_never_twice_the_same(server, tmp_path):  # noqa: F811
    url, asked, script = server
    judge = find_function("claims", {"url": url, "model": "big", "num_parallel": 1})
    judge.remember(Remembered(tmp_path / "replies.jsonl"))
    answers, images = ["A fox. A dog. A hat."], [Images((picture(0),))]
    script([(200, "Yes."), (200, "hm"), (200, "no"), (500, ""), (200, "yes")])
    scores, logged = called(judge, answers, images)
    assert scores == [2 / 3]
    assert [one["held"] for one in json.loads(logged["claims"][0])] == [1.0, 0.0, 1.0]
    assert len(asked) == 5 and asked[0]["messages"][1]["content"][0]["type"] == "image_url"
    again = find_function("claims", {"url": url, "model": "big"})
    again.remember(Remembered(tmp_path / "replies.jsonl"))
    assert called(again, answers, images)[0] == scores and len(asked) == 5
    again.remember(Remembered(tmp_path / "others.jsonl"))


def test_a_server_can_write_the_claims(server):  # noqa: F811
    url, asked, script = server
    judge = find_function("claims", {"url": url, "model": "big", "split": "judge", "num_parallel": 1})
    script([(200, "a fox => Is there a fox?\na hat => Is there a hat?"), (200, "yes"), (200, "no")])
    scores, logged = called(judge, ["A fox in a hat."], [Images((picture(0),))])
    assert scores == [0.5] and json.loads(logged["claims"][0])[1]["question"] == "Is there a hat?"
    assert "Is there a hat?" in asked[2]["messages"][1]["content"][-1]["text"]


def test_a_judge_that_talks_nonsense_or_is_gone_is_named(server):  # noqa: F811
    url, _, _ = server
    with pytest.raises(RewardError, match=r"judge `big` gave none of 1 verdicts the form yes or no; it says 'second'"):
        called(find_function("claims", {"url": url, "model": "big"}), ["A fox."], [Images((picture(0),))])
    gone = find_function("claims", {"url": "http://127.0.0.1:9/v1", "model": "big", "patience": 0})
    with pytest.raises(RewardError, match=r"Reward `claims`: .*cannot be reached.*Start the server"):
        called(gone, ["A fox."], [Images((picture(0),))])


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"url": "http://x/v1"}, "Give `model`"),
        ({"split": "judge"}, "Give `url` and `model`"),
        ({"question": "Is it true?"}, "no `{claim}`"),
    ],
)
def test_options_that_cannot_be_are_refused(options, said):
    with pytest.raises(RecipeError) as told:
        find_function("claims", options)
    assert said in str(told.value)


def test_without_a_policy_there_is_no_judge():
    with pytest.raises(RewardError, match="names no judge"):
        called(find_function("claims", {}), ["A fox."], [Images((picture(0),))])
