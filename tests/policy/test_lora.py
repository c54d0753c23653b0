"""Adapters: where they sit, in which precision, and that plain peft loads them."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForImageTextToText

from sightline.config import LoraConfig
from sightline.errors import ModelError
from sightline.layout import prefix
from sightline.policy.families import family_of
from sightline.policy.features import encode
from sightline.policy.forward import log_probs
from sightline.policy.lora import add_lora, trainable_summary
from sightline.rehearsal.tiny_models import BUILDERS
from tests.policy.conftest import Loaded

Load = Callable[..., Loaded]


def adapted_layers(model: nn.Module) -> set[str]:
    return {name.split(".lora_A")[0] for name, _ in family_of(model).model.named_parameters() if ".lora_A" in name}


@pytest.mark.parametrize("name", BUILDERS)
def test_language_targets_are_all_linear_layers_of_the_language_model_and_no_others(loaded: Load, name: str) -> None:
    model = loaded(name).model
    prefix_name = family_of(model).language_name + "."
    linear = {n for n, m in model.named_modules() if isinstance(m, nn.Linear) and n.startswith(prefix_name)}
    policy = add_lora(model, LoraConfig(r=2))
    assert adapted_layers(policy) == linear
    assert len(linear) >= 14
    trained, total, by_part = trainable_summary(policy)
    assert by_part == {"language": trained}
    assert trained == sum(p.numel() for p in policy.parameters() if p.requires_grad) < total


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
