"""Hybrids and mixtures in the planner: a delta rule that is traced once, adapters on stacked weights."""

from contextlib import nullcontext

import pytest

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.memory import activations, once
from sightline.memory.activations import Activations, measure_activations
from sightline.memory.skeleton import build_skeleton, weights_of
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor, read_config
from sightline.models.lora import add_lora, trainable_summary
from tests.groups import make_group


def measured(run: Recipe, lengths: tuple[int, ...] = (70, 140)) -> Activations:
    skeleton = build_skeleton(read_config(run.model), run)
    group = family_of(skeleton.policy).place(make_group(load_processor(run.model), lengths=lengths))
    return measure_activations(skeleton, group, layout="prefix", autocast=None)[1]


@pytest.mark.parametrize("checkpointing", [False, True])
def test_a_rule_that_stands_for_itself_holds_what_it_holds(tiny_model, monkeypatch, checkpointing):
    model = ModelConfig(name=str(tiny_model("qwen3_5")))
    run = Recipe(model=model, lora=LoraConfig(), use_cpu=True, gradient_checkpointing=checkpointing)
    monkeypatch.setattr(once, "COSTS", {})
    standing = measured(run)
    # of prompts without a state before them and of responses, of one group and of two
    assert len(once.COSTS) == 4
    monkeypatch.setattr(activations, "traced_once", lambda model, ledger: nullcontext())
    every_time = measured(run)
    assert (standing.layers, standing.head) == (every_time.layers, every_time.head)
    # gradients of its outputs are held to the end, not freed on the way
    assert every_time.peak <= standing.peak <= 1.05 * every_time.peak


def test_adapters_on_stacked_weights_are_counted_and_measured(tiny_model):
    model = ModelConfig(name=str(tiny_model("qwen3_vl_moe")))
    run = Recipe(model=model, lora=LoraConfig(r=2, target_modules=["language", "experts"]), use_cpu=True)
    assert run.lora is not None
    trained, _, _ = trainable_summary(add_lora(load_model(model), run.lora))
    adapters = [weights for weights in weights_of(build_skeleton(read_config(model), run)) if weights.part == "adapter"]
    assert sum(weights.number for weights in adapters) == trained
    attention = Recipe(model=model, lora=LoraConfig(r=2), use_cpu=True)
    assert measured(run).peak > measured(attention).peak
