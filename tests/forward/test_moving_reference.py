"""TR-DPO: the reference after an update is the mixture of weights that the paper writes down."""

import copy

import pytest
import torch

from sightline.config import LoraConfig, ModelConfig, ReferenceConfig
from sightline.forward.moving_reference import load_moved_state, move_reference, moved_state
from sightline.forward.reference import build_reference
from sightline.models.load import load_model, unfreeze
from sightline.models.lora import add_lora


def policy_and_reference(tiny_model, *, lora: bool):
    config = ModelConfig(name=str(tiny_model("llava")))
    model = load_model(config)
    policy = add_lora(model, LoraConfig(r=4)) if lora else unfreeze(model, config)
    reference = build_reference(policy, ReferenceConfig(type="frozen-copy"), has_lora=lora, needed=True)
    return policy, reference


def perturb(policy, seed):
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn(parameter.shape, generator=generator))


def dense(model):
    """The effective weight of an adapted (or plain) layer."""
    if hasattr(model, "peft_config"):
        merged = copy.deepcopy(model).merge_and_unload()
        return merged.model.language_model.layers[0].self_attn.q_proj.weight.detach()
    return model.model.language_model.layers[0].self_attn.q_proj.weight.detach().clone()


@pytest.mark.parametrize("lora", [True, False])
@pytest.mark.parametrize("weight", [0.3, 1.0])
def test_two_updates_mix_the_weights_as_the_equation_says(tiny_model, lora, weight):
    policy, reference = policy_and_reference(tiny_model, lora=lora)
    expected = dense(reference.model)
    for seed in (1, 2):
        perturb(policy, seed)
        expected = (1 - weight) * expected + weight * dense(policy)
        move_reference(reference, policy, weight=weight)
        assert torch.allclose(dense(reference.model), expected, atol=1e-6)
    assert not torch.allclose(expected, dense(policy_and_reference(tiny_model, lora=lora)[0]), atol=1e-3)


def test_the_policy_is_not_touched_by_an_update(tiny_model):
    policy, reference = policy_and_reference(tiny_model, lora=True)
    perturb(policy, 1)
    before = {name: parameter.clone() for name, parameter in policy.named_parameters()}
    move_reference(reference, policy, weight=0.5)
    assert all(torch.equal(before[name], parameter) for name, parameter in policy.named_parameters())


@pytest.mark.parametrize("weight", [0.5, 1.0])
def test_a_saved_reference_comes_back(tiny_model, weight):
    policy, reference = policy_and_reference(tiny_model, lora=True)
    perturb(policy, 1)
    move_reference(reference, policy, weight=weight)
    state = moved_state(reference, policy)
    _, fresh = policy_and_reference(tiny_model, lora=True)
    load_moved_state(fresh, state)
    assert torch.equal(dense(fresh.model), dense(reference.model))
