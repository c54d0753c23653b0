from pathlib import Path

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText, Gemma3ForSequenceClassification

from sightline.errors import RecipeError
from sightline.models.processor import from_pretrained
from sightline.rewards.reward_model import RewardModel


@pytest.fixture(scope="module")
def classifier(tiny_model, tmp_path_factory) -> Path:
    """A tiny Gemma 3 as sequence classifier, saved with its processor."""
    source = tiny_model("gemma3")
    base = AutoModelForImageTextToText.from_pretrained(source)
    torch.manual_seed(0)
    base.config.num_labels = 1
    base.config.text_config.num_labels = 1
    model = Gemma3ForSequenceClassification(base.config)
    model.model.load_state_dict(base.model.state_dict())
    folder = tmp_path_factory.mktemp("classifier")
    model.save_pretrained(folder)
    from_pretrained(str(source), base.config, None).save_pretrained(folder)
    return folder


def score(folder, *questions, batch_size=8):
    prompts, texts, colours = zip(*questions, strict=True)
    images = [[Image.new("RGB", (56, 56), colour)] for colour in colours]
    return RewardModel(model=str(folder), batch_size=batch_size)(list(texts), prompts=list(prompts), images=images)


def test_the_classifier_reads_question_image_and_answer(classifier):
    base, other_answer, other_image, other_question = score(
        classifier,
        ("What is it?", "a red square", "red"),
        ("What is it?", "a blue circle", "red"),
        ("What is it?", "a red square", "blue"),
        ("How many?", "a red square", "red"),
    )
    assert all(abs(value - base) > 1e-4 for value in (other_answer, other_image, other_question))


def test_strings_and_messages_score_alike_in_any_batch(classifier):
    message = [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "What is it?"}]}]
    together = score(
        classifier, ("What is it?", "a red square", "red"), (message, "a red square", "red"), (message, "one", "blue")
    )
    alone = score(classifier, (message, "a red square", "red"), (message, "one", "blue"), batch_size=1)
    assert together == pytest.approx([alone[0], alone[0], alone[1]], abs=1e-4)


def test_what_is_no_classifier_is_refused(tmp_path, tiny_model):
    with pytest.raises(RecipeError, match="cannot be loaded for sequence classification"):
        score(tiny_model("llava"), ("What is it?", "one", "red"))
