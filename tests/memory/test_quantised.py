"""Weights in fewer bits are counted as bitsandbytes stores them."""

import pytest
from torch import nn

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.memory.estimator import Estimator
from sightline.memory.sample import ImageSize, Sizes
from sightline.models.load import load_model, read_config


def stored(weight: nn.Parameter) -> int:
    """Bytes of a weight and of NF4's scales, without the table of its sixteen values."""
    state = getattr(weight, "quant_state", None)
    scales = 0 if state is None else state.absmax.nbytes
    if state is not None and state.nested:
        scales += state.state2.absmax.nbytes + state.offset.nbytes
    return weight.nbytes + scales


@pytest.mark.parametrize(
    "options",
    [
        {"quantize": "none", "dtype": "bfloat16"},
        {"quantize": "nf4"},
        {"quantize": "nf4", "double_quantize": False},
        {"quantize": "nf4", "quantize_parts": ["language", "projector", "vision"]},
        {"quantize": "nf4", "quantize_parts": ["vision"]},
        {"quantize": "int8"},
    ],
    ids=lambda options: " ".join(map(str, options.values())),
)
def test_the_plan_counts_the_bytes_that_are_stored(tiny_model, options):
    model = ModelConfig(name=str(tiny_model("llava")), **options)
    real = sum(stored(weight) for weight in load_model(model).parameters())
    estimator = Estimator(read_config(model), Sizes(image=ImageSize(56, 56), response_tokens=8))
    lines = estimator.static(Recipe(model=model, lora=LoraConfig(), use_cpu=True))
    weights = [line for line in lines if line.what == "weights" and line.part != "adapter"]
    assert sum(line.bytes for line in weights) == pytest.approx(real, rel=0.003)
