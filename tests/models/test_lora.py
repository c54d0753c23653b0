"""Adapters: where they sit, in which precision, and that plain peft loads them."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from sightline.config import LoraConfig, ReferenceConfig
from sightline.errors import ModelError
from sightline.export.merge import merged
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.forward.reference import build_reference
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model
from sightline.models.lora import add_lora, experts_left_alone, trainable_summary
from sightline.rehearsal.every_type import gradients, worst_gradient
from sightline.rehearsal.tiny_models import NAMED
from tests.loaded import Loaded

Load = Callable[..., Loaded]


def adapted_layers(model: nn.Module) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in family_of(model).model.named_parameters() if ".lora_A" in name}


@pytest.mark.parametrize("name", NAMED)
def test_language_targets_are_all_linear_layers_of_the_language_model_and_no_others(loaded: Load, name: str) -> None:
    model = loaded(name).model
    prefix_name = family_of(model).language_name + "."
    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.startswith(prefix_name)}
    policy = add_lora(model, LoraConfig(r=2))
    assert adapted_layers(policy) == linear
    # two layers; experts are stacked weights, not linear layers
    assert len(linear) >= (8 if name == "qwen3_vl_moe" else 14)
    trained, total, by_part = trainable_summary(policy)
    assert by_part == {"language": trained}
    assert trained == sum(p.numel() for p in policy.parameters() if p.requires_grad) < total


@pytest.mark.parametrize("name", NAMED)
@pytest.mark.parametrize("parts", [["vision"], ["projector"], ["language", "projector"]])
def test_parts_are_all_linear_layers_of_theirs_and_no_others(loaded: Load, name: str, parts: list[str]) -> None:
    model = loaded(name).model
    family = family_of(model)
    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear)}
    expected = {n for n in linear if family.part_of(f"{n}.weight") in parts}
    if not expected:
        with pytest.raises(ModelError, match="fits no layer"):
            add_lora(model, LoraConfig(r=2, target_modules=parts))
        return
    policy = add_lora(model, LoraConfig(r=2, target_modules=parts))
    assert adapted_layers(policy) == expected
    assert set(trainable_summary(policy)[2]) <= set(parts)


def test_parts_and_names_are_not_mixed(loaded: Load) -> None:
    with pytest.raises(ModelError, match="mixes parts"):
        add_lora(loaded("llava").model, LoraConfig(target_modules=["vision", "q_proj"]))


def test_rslora_scales_by_the_root_of_the_rank(loaded: Load) -> None:
    def scale(rslora: bool) -> float:
        policy = add_lora(loaded("llava").model, LoraConfig(r=16, alpha=8, use_rslora=rslora))
        (scaling,) = {m.scaling["default"] for m in policy.modules() if isinstance(m, LoraLayer)}
        return scaling

    assert scale(False) == 0.5 and scale(True) == 2.0


def score(policy: nn.Module, llava: Loaded) -> Tensor:
    group = llava.group()
    return log_probs(policy, prefix.lay_out([group]), groups=[group], features=encode(policy, [group])).logp


def test_dora_trains_magnitudes_apart_and_starts_where_the_model_is(loaded: Load) -> None:
    start = score(loaded("llava").model, loaded("llava")).detach()
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=2, use_dora=True))
    found = score(policy, llava)
    torch.testing.assert_close(found, start, rtol=1e-4, atol=1e-4)
    found.sum().backward()
    magnitudes = {n: p for n, p in policy.named_parameters() if "magnitude" in n}
    assert len(magnitudes) == len(adapted_layers(policy))
    assert all(p.requires_grad and p.grad is not None and bool(p.grad.any()) for p in magnitudes.values())
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None and reference.mode == "adapter-off"


def test_pissa_starts_from_the_largest_singular_values_and_the_reference_is_still_the_start(loaded: Load) -> None:
    start = score(loaded("llava").model, loaded("llava")).detach()
    plain = {n: m.weight for n, m in loaded("llava").model.named_modules() if isinstance(m, nn.Linear)}
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=4, init="pissa"))
    for name, module in family_of(policy).model.named_modules():
        if isinstance(module, LoraLayer):
            singular = torch.linalg.svdvals(plain[name])
            left = torch.linalg.svdvals(module.get_base_layer().weight)
            torch.testing.assert_close(left[0], singular[4], rtol=1e-3, atol=1e-4)
    torch.testing.assert_close(score(policy, llava).detach(), start, rtol=1e-4, atol=1e-4)
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None and reference.mode == "frozen-copy", "switched off, the weights are others"
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.1)
    group = llava.group()
    batch, features = prefix.lay_out([group]), encode(policy, [group])
    found = reference.log_probs(batch, groups=[group], features=features).logp
    torch.testing.assert_close(found, start, rtol=1e-4, atol=1e-4)


def test_plain_peft_loads_a_saved_pissa_adapter_and_scores_alike(loaded: Load, tmp_path: Path) -> None:
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=4, init="pissa"))
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    expected = score(policy, llava).detach()
    policy.save_pretrained(str(tmp_path))
    again = PeftModel.from_pretrained(AutoModelForImageTextToText.from_pretrained(llava.config.name), str(tmp_path))
    torch.testing.assert_close(score(again, llava), expected, rtol=1e-4, atol=1e-4)


def test_a_quantised_base_takes_no_adapter_that_started_from_its_weights(loaded: Load, tmp_path: Path) -> None:
    llava = loaded("llava")
    add_lora(llava.model, LoraConfig(r=2, init="pissa")).save_pretrained(str(tmp_path))
    rounded = load_model(replace(llava.config, quantize="nf4"))
    with pytest.raises(ModelError, match=r"took its start out of the base.*`sightline export` that run"):
        add_lora(rounded, LoraConfig(adapter=str(tmp_path)))


@pytest.mark.parametrize("layout", ["prefix", "padded"])
def test_dropout_has_one_mask_for_the_prompt_of_a_shared_row(loaded: Load, layout: str) -> None:
    """Two equal responses then read the same prompt; padded, each reads it through a mask of its own."""
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=4, dropout=0.5, target_modules=["v_proj"])).train()
    with torch.no_grad():
        for name, parameter in policy.named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3)
    group = llava.group(lengths=(6, 6))
    group = replace(group, responses=(group.responses[0],) * 2)
    lay_out = prefix.lay_out if layout == "prefix" else padded.lay_out
    torch.manual_seed(0)
    batch = lay_out([group])
    scored = log_probs(policy, batch, groups=[group], features=encode(policy, [group]))
    # the first token of a response depends on the prompt alone
    first, second = (scored.logp[scored.response == k][0] for k in (0, 1))
    assert (float((first - second).abs()) < 1e-5) == (layout == "prefix")


def test_all_linear_adapts_the_tower_too_and_never_the_head(loaded: Load) -> None:
    policy = add_lora(loaded("llava").model, LoraConfig(r=2, target_modules="all-linear"))
    assert any("vision_tower" in name for name in adapted_layers(policy))
    assert not any("lm_head" in name for name in adapted_layers(policy))


def test_names_of_layers_are_taken_as_peft_takes_them(loaded: Load) -> None:
    policy = add_lora(loaded("llava").model, LoraConfig(r=2, target_modules=["q_proj"]))
    assert all(name.endswith("q_proj") for name in adapted_layers(policy))


def test_names_that_fit_nothing_are_refused(loaded: Load) -> None:
    with pytest.raises(ModelError, match=r"lora\.target_modules.*fits no layer"):
        add_lora(loaded("llava").model, LoraConfig(r=2, target_modules=["qproj"]))


def test_an_adapted_output_embedding_is_refused(loaded: Load) -> None:
    with pytest.raises(ModelError, match="lm_head"):
        add_lora(loaded("llava").model, LoraConfig(r=2, target_modules=["q_proj", "lm_head"]))


def test_adapters_are_float32_on_a_bfloat16_model_and_scale_with_twice_the_rank(loaded: Load) -> None:
    policy = add_lora(loaded("llava", dtype="bfloat16").model, LoraConfig(r=3))
    trained = [p for p in policy.parameters() if p.requires_grad]
    assert trained and all(p.dtype == torch.float32 for p in trained)
    assert {p.dtype for p in policy.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert policy.peft_config["default"].lora_alpha == 6


def test_plain_peft_loads_the_saved_adapter_and_scores_alike(loaded: Load, tmp_path: Path) -> None:
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=2))
    for name, parameter in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(parameter, std=0.1)
    group = llava.group()
    batch = prefix.lay_out([group])
    expected = log_probs(policy, batch, groups=[group], features=encode(policy, [group])).logp
    policy.save_pretrained(str(tmp_path))
    base = AutoModelForImageTextToText.from_pretrained(llava.config.name)
    again = PeftModel.from_pretrained(base, str(tmp_path))
    found = log_probs(again, batch, groups=[group], features=encode(again, [group])).logp
    torch.testing.assert_close(found, expected)


def test_an_adapter_is_trained_further(loaded: Load, tmp_path: Path) -> None:
    first = add_lora(loaded("llava").model, LoraConfig(r=3, target_modules=["q_proj"]))
    first.save_pretrained(str(tmp_path))
    further = add_lora(loaded("llava").model, LoraConfig(adapter=str(tmp_path)))
    assert adapted_layers(further) == adapted_layers(first)
    assert trainable_summary(further)[0] == trainable_summary(first)[0] > 0


def test_a_regular_expression_that_never_ends_is_refused(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.models.trial.SECONDS", 1)
    with pytest.raises(ModelError, match="is not done after 1 s"):
        add_lora(loaded("llava").model, LoraConfig(r=2, target_modules="(([a-z_.0-9]+)+)+!"))
    policy = add_lora(loaded("llava").model, LoraConfig(r=2, target_modules=r".*language_model.*\.[qv]_proj"))
    assert all(name.endswith(("q_proj", "v_proj")) for name in adapted_layers(policy))
    with pytest.raises(ValueError, match=r"`lora\.target_modules: \(` is no regular expression"):
        LoraConfig(target_modules="(")


def test_experts_are_adapted_counted_saved_and_merged_exactly(loaded: Load, tmp_path: Path) -> None:
    moe = loaded("qwen3_vl_moe")
    stacks = {name: weight.shape for name, weight in moe.model.named_parameters() if ".experts." in name}
    assert experts_left_alone(add_lora(loaded("qwen3_vl_moe").model, LoraConfig(r=2))) == sum(
        shape.numel() for shape in stacks.values()
    )
    policy = add_lora(moe.model, LoraConfig(r=2, target_modules="experts"))
    # A [r · experts, in] and B [out, r · experts] of each stack [experts, out, in]
    assert trainable_summary(policy)[2] == {"language": sum(2 * e * (i + o) for e, o, i in stacks.values())}
    assert experts_left_alone(policy) == 0
    for name, weight in policy.named_parameters():
        if "lora_B" in name:
            nn.init.normal_(weight, std=0.1)
    group = moe.group(lengths=(5, 3))

    def scored(model: nn.Module, layout: str) -> Tensor:
        batch = prefix.lay_out([group]) if layout == "prefix" else padded.lay_out([group])
        return log_probs(model, batch, groups=[group], features=encode(model, [group])).logp

    shared, repeated = scored(policy, "prefix"), scored(policy, "padded")
    assert (shared - repeated).abs().max() < 1e-5
    assert worst_gradient(gradients(policy, shared), gradients(policy, repeated)) < 1e-3
    base = loaded("qwen3_vl_moe").model
    assert (scored(base, "prefix") - shared).abs().max() > 1e-2
    policy.save_pretrained(str(tmp_path))
    again = add_lora(base, LoraConfig(adapter=str(tmp_path)))
    torch.testing.assert_close(scored(again, "prefix"), shared)
    torch.testing.assert_close(scored(merged(policy, torch.float32), "prefix"), shared, rtol=0, atol=1e-5)


def test_experts_of_a_model_without_any_are_refused(loaded: Load) -> None:
    with pytest.raises(ModelError, match="has no experts whose weights are stacked"):
        add_lora(loaded("llava").model, LoraConfig(target_modules=["language", "experts"]))
