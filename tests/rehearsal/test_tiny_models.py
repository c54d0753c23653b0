"""Tiny models are their real ones: the same weights by name, one layer of each sort, sizes that agree."""

import re

import pytest
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from sightline.config import ModelConfig
from sightline.memory.shapes import SHAPES, read_shape
from sightline.models.load import load_model, load_processor
from sightline.rehearsal import tiny_models
from sightline.rehearsal.tiny_config import shrink_config
from sightline.rehearsal.tiny_families import FAMILIES

ONE_EACH = {read_shape(shape).model_type: shape for shape in sorted(set(SHAPES.values()), reverse=True)}


def weights(config) -> set[str]:
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(config)
    return {re.sub(r"\d+", "N", name) for name, _ in model.named_parameters()}


@pytest.mark.parametrize("shape", ONE_EACH.values())
def test_a_tiny_model_has_every_sort_of_weight_that_the_real_one_has(shape):
    assert weights(shrink_config(read_shape(shape), 640)) == weights(read_shape(shape))


@pytest.mark.parametrize("shape", sorted(set(SHAPES.values())))
def test_every_published_config_gets_small(shape):
    with torch.device("meta"):
        model = AutoModelForImageTextToText.from_config(shrink_config(read_shape(shape), 640))
    # the audio tower of Gemma 4 stays wide at its ends
    most = 700_000 if shape.startswith("gemma-4") else 400_000
    assert 100_000 < sum(weight.numel() for weight in model.parameters()) < most


def test_a_layer_of_each_sort_is_kept_and_named_by_its_new_number():
    gemma = shrink_config(read_shape("gemma-3-4b-it"), 640)
    assert gemma.text_config.layer_types == ["sliding_attention", "full_attention"]
    assert gemma.text_config.sliding_window == 1024
    llama = shrink_config(read_shape("llama-3.2-11b-vision-instruct"), 640)
    assert llama.text_config.num_hidden_layers == 2 and llama.text_config.cross_attention_layers == [1]
    assert shrink_config(read_shape("qwen2.5-vl-7b-instruct"), 640).vision_config.fullatt_block_indexes == [1]


def test_sizes_that_agree_in_the_real_config_agree_in_the_tiny_one():
    qwen = shrink_config(read_shape("qwen2.5-vl-7b-instruct"), 640)
    assert (qwen.text_config.num_attention_heads, qwen.text_config.num_key_value_heads) == (4, 2)
    assert qwen.vision_config.out_hidden_size == qwen.text_config.hidden_size == 64
    # 16 + 24 + 24 frequencies of a head of 128 dimensions → 2 + 3 + 3 of a head of 16
    assert qwen.text_config.rope_parameters["mrope_section"] == [2, 3, 3]
    llava = shrink_config(read_shape("llava-1.5-7b"), 640)
    assert llava.text_config.num_key_value_heads == llava.text_config.num_attention_heads
    idefics = shrink_config(read_shape("idefics2-8b"), 640)
    assert idefics.perceiver_config.hidden_size == idefics.text_config.hidden_size


def test_heads_may_be_larger_and_values_may_be_given():
    wide = shrink_config(read_shape("qwen2.5-vl-7b-instruct"), 700, {"text_config.rms_norm_eps": 0.5}, head_size=32)
    assert (wide.text_config.num_attention_heads, wide.text_config.num_key_value_heads) == (2, 1)
    assert wide.text_config.rope_parameters["mrope_section"] == [4, 6, 6]
    assert wide.text_config.vocab_size == 700 and wide.text_config.rms_norm_eps == 0.5


@pytest.mark.parametrize("name", tiny_models.NAMED)
def test_model_and_processor_of_each_name_fit_together(name, tiny_model):
    config = ModelConfig(name=str(tiny_model(name)))
    model, processor = load_model(config), load_processor(config)
    image = Image.new("RGB", (100, 70), "red")
    text = f"{FAMILIES[model.config.model_type].image}What is shown?"
    inputs = processor(text=[text], images=[[image]], return_tensors="pt")
    logits = model(**inputs).logits
    assert logits.shape[1] == inputs["input_ids"].shape[1] < 120
    # far from uniform, in which an error would hide
    assert logits.std() > 0.3


def test_the_same_seed_writes_the_same_weights(tmp_path, tiny_model):
    first, again = (
        load_model(ModelConfig(name=str(f))) for f in (tiny_model("llava"), tiny_models.save("llava", tmp_path))
    )
    assert all(torch.equal(a, b) for a, b in zip(first.parameters(), again.parameters(), strict=True))
