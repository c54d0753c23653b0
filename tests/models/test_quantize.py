"""Weights in fewer bits: which layers, that they compute as stored, and that an adapter on them is trained."""

from collections.abc import Callable

import pytest
import torch
from bitsandbytes.functional import dequantize_4bit
from bitsandbytes.nn import Linear4bit, Linear8bitLt
from torch import nn

from sightline.config import LoraConfig, ReferenceConfig
from sightline.errors import ModelError
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.forward.reference import build_reference
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model, trainable_summary
from sightline.models.lora import add_lora
from sightline.rehearsal.tiny_models import NAMED
from tests.loaded import Loaded

Load = Callable[..., Loaded]
KINDS = {"nf4": Linear4bit, "int8": Linear8bitLt}
RELATIVE_ERROR = {"nf4": 0.13, "int8": 0.02}


def layers_of(model: nn.Module, *parts: str) -> dict[str, nn.Linear]:
    family = family_of(model)
    found = {n: m for n, m in family.model.named_modules() if isinstance(m, nn.Linear)}
    return {name: layer for name, layer in found.items() if family.part_of(f"{name}.weight") in parts}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", NAMED)
def test_the_language_models_layers_are_quantised_and_no_others(loaded: Load, name: str, kind: str) -> None:
    model = loaded(name, quantize=kind).model
    language = layers_of(model, "language")
    # two layers of at least attention; experts are one tensor, which stays as it is
    assert len(language) >= 8 and {type(layer) for layer in language.values()} == {KINDS[kind]}
    others = layers_of(model, "vision", "projector", "head")
    assert others and {type(layer) for layer in others.values()} <= {nn.Linear, type(model.get_output_embeddings())}
    assert {layer.weight.dtype for layer in others.values()} == {torch.bfloat16}
    assert type(model.get_output_embeddings()) is nn.Linear
    assert not any(p.requires_grad for p in model.parameters())


def test_nf4_has_double_quantisation_unless_the_recipe_says_no_and_computes_in_bfloat16(loaded: Load) -> None:
    for double in (True, False):
        layer = next(
            iter(layers_of(loaded("llava", quantize="nf4", double_quantize=double).model, "language").values())
        )
        state = layer.weight.quant_state
        assert state.quant_type == "nf4" and state.nested is double and state.blocksize == 64
        assert layer.compute_dtype == torch.bfloat16
        assert layer.weight.dtype == torch.uint8 and layer.weight.numel() * 2 == layer.in_features * layer.out_features


def test_other_parts_are_quantised_when_the_recipe_names_them(loaded: Load) -> None:
    model = loaded("llava", quantize="nf4", quantize_parts=["language", "projector", "vision"]).model
    assert {type(one) for one in layers_of(model, "language", "projector", "vision").values()} == {Linear4bit}
    assert type(model.get_output_embeddings()) is nn.Linear


@pytest.mark.parametrize("kind", KINDS)
def test_a_layer_computes_what_it_stores_near_the_weights_it_came_from(loaded: Load, kind: str) -> None:
    whole = layers_of(loaded("llava").model, "language")
    torch.manual_seed(0)
    for name, layer in layers_of(loaded("llava", quantize=kind).model, "language").items():
        weight = whole[name].weight.float()
        rows = torch.randn(64, layer.in_features, dtype=torch.bfloat16)
        exact = rows.float() @ weight.T
        error = (layer(rows).float() - exact).norm() / exact.norm()
        assert 0 < error < RELATIVE_ERROR[kind], name
        if kind == "nf4":
            stored = dequantize_4bit(layer.weight.data, layer.weight.quant_state).float()
            assert (layer(rows).float() - rows.float() @ stored.T).norm() / exact.norm() < 0.01, name


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics3"])
def test_an_adapter_on_quantised_weights_has_gradients_and_the_prefix_is_exact(
    loaded: Load, name: str, kind: str
) -> None:
    whole, quantised = loaded(name), loaded(name, quantize=kind)
    policy = add_lora(quantised.model, LoraConfig(r=2))
    group = quantised.group(lengths=(9, 7))
    features = encode(policy, [group])
    shared = log_probs(policy, prefix.lay_out([group]), groups=[group], features=features).logp
    shared.sum().backward()
    gradients = [p.grad for n, p in policy.named_parameters() if "lora_B" in n]
    assert gradients and all(g is not None and g.dtype == torch.float32 and bool(g.any()) for g in gradients)
    assert all(p.grad is None for n, p in policy.named_parameters() if "lora" not in n)
    with torch.no_grad():
        plain = log_probs(policy, padded.lay_out([group]), groups=[group], features=features).logp
        exact = log_probs(whole.model, prefix.lay_out([group]), groups=[group], features=encode(whole.model, [group]))
    spread = float(exact.logp.std())
    assert float((shared - plain).abs().mean()) < 0.02 * spread, "bfloat16's rounding"
    assert float((shared - exact.logp).abs().mean()) < {"nf4": 0.5, "int8": 0.1}[kind] * spread


@pytest.mark.parametrize("kind", KINDS)
def test_gradients_after_an_evaluation_are_those_of_the_stored_weights(loaded: Load, kind: str) -> None:
    """bitsandbytes' own layers pack themselves for inference on a CPU, and lose their gradient by it."""
    llava = loaded("llava", quantize=kind)
    group = llava.group(lengths=(9, 7))
    batch = prefix.lay_out([group])
    torch.manual_seed(0)
    policy = add_lora(llava.model, LoraConfig(r=2, init="gaussian"))
    with torch.no_grad():
        log_probs(policy.eval(), batch, groups=[group], features=None)
    log_probs(policy.train(), batch, groups=[group], features=encode(policy, [group])).logp.sum().backward()
    found = {n: p.grad for n, p in policy.named_parameters() if "lora_" in n}

    llava.model.dequantize().float()
    for parameter in policy.parameters():
        parameter.grad = None
    log_probs(policy, batch, groups=[group], features=encode(policy, [group])).logp.sum().backward()
    expected = {n: p.grad for n, p in policy.named_parameters() if "lora_B" in n}
    assert len(expected) >= 14
    for name in expected:
        one, other = found[name], expected[name]
        assert one is not None and other is not None
        assert torch.nn.functional.cosine_similarity(one.flatten(), other.flatten(), dim=0) > 0.99, name


@pytest.mark.parametrize("kind", KINDS)
def test_policy_and_reference_start_alike(loaded: Load, kind: str) -> None:
    llava = loaded("llava", quantize=kind)
    policy = add_lora(llava.model, LoraConfig(r=2)).train()
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    group = llava.group(lengths=(9, 7))
    batch, features = prefix.lay_out([group]), encode(policy, [group])
    start = log_probs(policy, batch, groups=[group], features=features).logp.detach()
    assert reference is not None
    assert torch.equal(reference.log_probs(batch, groups=[group], features=features).logp, start)


def test_all_weights_are_counted_though_two_share_a_byte(loaded: Load) -> None:
    whole = trainable_summary(add_lora(loaded("llava").model, LoraConfig(r=2)))
    assert trainable_summary(add_lora(loaded("llava", quantize="nf4").model, LoraConfig(r=2))) == whole


def test_without_bitsandbytes_the_extra_is_named(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    config = loaded("llava", quantize="nf4").config
    monkeypatch.setattr("sightline.models.quantize.is_bitsandbytes_available", lambda: False)
    with pytest.raises(ModelError, match=r"nf4.*sightline\[quant\]"):
        load_model(config)
