"""CUDA's kernel in whole models, its operators emulated on a CPU: log-probs and gradients of plain forwards."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from sightline.attention import attention
from sightline.attention.choice import Choice
from sightline.attention.varlen import VarlenKernel
from sightline.forward.check import compare_layouts
from sightline.layout import prefix
from sightline.models.families.find import family_of
from sightline.rehearsal.every_type import gradients, worst_gradient
from tests.fakegpu.flash import Flash, flash_on_cpu
from tests.forward.test_equivalence import GRADIENT, LOGP, Load, load, place, plain_scores, score

__all__ = ["load"]
SERVED = ["gemma3", "idefics3", "llava", "mllama", "paligemma", "qwen2_5_vl", "qwen3_5", "qwen3_vl_moe", "smolvlm"]


@pytest.fixture(autouse=True)
def flash(monkeypatch: pytest.MonkeyPatch) -> Iterator[Flash]:
    monkeypatch.setattr(attention, "SMALLEST_GROUP", 0)
    monkeypatch.setattr(
        "sightline.models.families.family.choose", lambda *_: Choice(kernel=VarlenKernel(), why="emulated")
    )
    with flash_on_cpu(exact=True) as flash:
        yield flash


@pytest.mark.parametrize("name", SERVED)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_values_and_gradients_are_those_of_plain_forwards(load: Load, flash: Flash, name: str, lora: bool) -> None:
    model, groups = load(name, lora=lora)
    groups = place(model, groups)
    expected = plain_scores(model, groups)
    expected_gradients = gradients(model, expected)
    assert not flash.calls
    found = score(model, groups, prefix.lay_out(groups))
    assert (found - expected).abs().max() <= LOGP
    assert worst_gradient(gradients(model, found), expected_gradients) <= GRADIENT
    kinds = family_of(model).text_config.layer_types if hasattr(family_of(model).text_config, "layer_types") else []
    others = [kind for kind in kinds if kind in ("linear_attention", "sliding_attention")]
    layers = family_of(model).text_config.num_hidden_layers - len(others)
    for direction in ("forward", "backward"):
        calls = [call for call in flash.calls if call.startswith(direction)]
        assert 0 < len(calls) <= 2 * layers, "two calls a layer"


def test_the_check_before_training_compares_this_kernel(
    load: Load, flash: Flash, monkeypatch: pytest.MonkeyPatch, tiny_model: Callable[[str], Path]
) -> None:
    model, groups = load("qwen2_5_vl")
    placed = place(model, groups)[:1]
    assert compare_layouts(model, placed).agrees and flash.calls
    wrong = VarlenKernel.forward

    def forward(*arguments):
        output, lse = wrong(*arguments)
        return output.roll(1, 0), lse

    monkeypatch.setattr(VarlenKernel, "forward", forward)
    with torch.no_grad():
        assert not compare_layouts(model, placed).agrees
