"""What a model without data is said to hold is what a real one holds."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

from sightline.config import LoraConfig, ModelConfig, Recipe
from sightline.memory import activations
from sightline.memory.activations import Step, measure_activations
from sightline.memory.estimator import Estimator
from sightline.memory.ledger import Ledger
from sightline.memory.sample import ImageSize, Sizes, rendered_group
from sightline.memory.skeleton import build_skeleton, decoder_layers
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor, read_config
from sightline.models.lora import add_lora
from sightline.models.recompute import recompute
from tests.groups import make_group

RUNS: list[tuple[str, bool | str]] = [
    *((family, False) for family in ("llava", "idefics3", "qwen2_vl", "qwen3_vl", "paligemma", "mllama")),
    # recomputation wraps a layer, whatever the family: one plain, one whose layers get images, one of two kinds
    ("llava", True),
    ("llava", "selective"),
    ("qwen3_vl", "selective"),
    ("mllama", True),
]


class RealLedger(Ledger):
    """Counts real tensors as they are."""

    def _without_data(self, tensor: Tensor) -> Tensor:
        return tensor


def recipe(folder, **changes) -> Recipe:
    return Recipe(model=ModelConfig(name=str(folder)), lora=LoraConfig(), use_cpu=True, **changes)


@pytest.mark.parametrize(("family_name", "checkpointing"), RUNS)
def test_a_model_without_data_holds_in_every_phase_what_the_real_one_holds(
    tiny_model, monkeypatch, family_name, checkpointing
):
    run = recipe(tiny_model(family_name), gradient_checkpointing=checkpointing)
    skeleton = build_skeleton(read_config(run.model), run)
    group = family_of(skeleton.policy).place(make_group(load_processor(run.model), lengths=(20, 30)))
    foretold = measure_activations(skeleton, group, layout="prefix", autocast=None)[1]

    real = add_lora(load_model(run.model), LoraConfig()).train()
    recompute(real, checkpointing)
    monkeypatch.setattr(activations, "Ledger", RealLedger)
    monkeypatch.setattr(activations, "without_data", lambda model: FakeTensorMode())
    seen = Step(real, group, layout="prefix", autocast=None).run(list(decoder_layers(real)), 2)
    assert foretold == seen


def test_trained_weights_under_autocast_are_counted_with_their_copies(tiny_model):
    run = replace(recipe(tiny_model("llava")), lora=None)
    skeleton = build_skeleton(read_config(run.model), run)
    group = family_of(skeleton.policy).place(make_group(load_processor(run.model), lengths=(20, 30)))
    matrices = sum(p.numel() for layer in decoder_layers(skeleton.policy) for p in layer.parameters() if p.ndim == 2)
    found = measure_activations(skeleton, group, layout="prefix", autocast=torch.bfloat16)[0]
    assert found.copies == 2 * matrices
    # computed again, a layer's are gone when it is done: those of one of two layers are left, or the head's
    run = replace(run, gradient_checkpointing=True)
    again = measure_activations(
        build_skeleton(read_config(run.model), run), group, layout="prefix", autocast=torch.bfloat16
    )
    head = 2 * skeleton.policy.get_output_embeddings().weight.numel()
    assert again[0].copies == 0
    assert max(again[0].forward_copies, again[0].backward_copies) <= max(matrices, head) < 2 * matrices


@pytest.mark.parametrize(
    ("changes", "autocast"),
    [({}, None), ({"lora": None}, torch.bfloat16), ({"gradient_checkpointing": True}, torch.bfloat16)],
    ids=str,
)
def test_a_layer_more_costs_what_the_one_before_it_cost(tiny_model, changes, autocast):
    """A short model tells of a long one, for one row and for two: 7 layers from 2 and 3 are 7 layers run."""
    run = replace(recipe(tiny_model("llava")), **changes)
    config = read_config(run.model)
    config.text_config.num_hidden_layers = 7
    skeleton, whole = build_skeleton(config, run), build_skeleton(config, run, whole=True).policy
    group = family_of(whole).place(make_group(load_processor(run.model), lengths=(20, 30)))
    foretold = measure_activations(skeleton, group, layout="prefix", autocast=autocast)
    run_whole = Step(whole, group, layout="prefix", autocast=autocast)
    assert foretold == tuple(run_whole.run(list(decoder_layers(whole)), number) for number in (1, 2))


def test_what_saves_memory_is_seen_to_save_it(tiny_model):
    run = recipe(tiny_model("llava"), per_device_train_batch_size=4)
    config = read_config(run.model)
    config.text_config.num_hidden_layers = 8
    estimator = Estimator(config, Sizes(image=ImageSize(56, 56), response_tokens=32))
    before = estimator.estimate(run).of("activations")
    for changes, less in ({"gradient_checkpointing": True}, 0.7), ({"per_device_train_batch_size": 1}, 0.6):
        assert estimator.estimate(replace(run, **changes)).of("activations") < less * before


def test_a_rendered_row_has_the_sizes_asked_for(tiny_model):
    run = recipe(tiny_model("llava"))
    family = family_of(build_skeleton(read_config(run.model), run).policy)
    group = rendered_group(family, load_processor(run.model), Sizes(image=ImageSize(56, 56), response_tokens=9))
    assert [len(response) for response in group.responses] == [9, 9]
    assert family.num_placeholders(group) == 16 and group.positions is not None
