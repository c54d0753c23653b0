"""When a model's attention goes without a mask, and which kernel then serves it."""

from collections.abc import Callable

import pytest
import torch
from torch import nn
from transformers import AutoModelForImageTextToText

from sightline.attention import attention
from sightline.attention.cpu import CpuKernel
from sightline.attention.spans import spans_of
from sightline.config import ModelConfig
from sightline.layout import prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model
from tests.layout.written import write_group
from tests.loaded import Loaded

Load = Callable[..., Loaded]
CPU = torch.device("cpu")


@pytest.fixture(autouse=True)
def _no_group_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SMALLEST_GROUP", 0)


def test_short_groups_get_a_dense_mask_on_a_cpu_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    spans = spans_of(prefix.lay_out([write_group([1] * 100, [2] * 50)]))
    assert attention.is_worthwhile(spans, CPU)
    monkeypatch.setattr(attention, "SMALLEST_GROUP", 1000)
    assert not attention.is_worthwhile(spans, CPU)
    assert attention.is_worthwhile(spans, torch.device("cuda"))


def test_the_carried_mask_is_useless_to_any_other_attention() -> None:
    spans = spans_of(prefix.lay_out([write_group([1] * 9, [2] * 4, [3] * 6)]))
    mask = attention.mask_with(attention.plan_with(CpuKernel(), spans, CPU))
    states = torch.randn(1, 1, 20, 4)
    with pytest.raises(RuntimeError):
        nn.functional.scaled_dot_product_attention(states, states, states, attn_mask=mask)


def test_a_window_or_dropout_gets_a_dense_mask(loaded: Load) -> None:
    mistral = loaded("idefics2_window")
    family = family_of(mistral.model)
    assert not hasattr(family.masks(prefix.lay_out([mistral.group()])), "plan")
    short = family.place(write_group([1, 2, 3], [4, 5]))
    assert hasattr(family.masks(prefix.lay_out([short])), "plan")
    llava = loaded("llava")
    llava.model.config.text_config.attention_dropout = 0.1
    batch = prefix.lay_out([llava.group()])
    assert hasattr(family_of(llava.model).masks(batch), "plan")
    llava.model.train()
    assert not hasattr(family_of(llava.model).masks(batch), "plan")


def test_it_is_chosen_on_a_cpu_and_not_saved_with_the_model(loaded: Load, tmp_path) -> None:
    llava = loaded("llava")
    assert llava.model.config.text_config._attn_implementation == attention.NAME
    assert llava.model.config.vision_config._attn_implementation == "sdpa"
    assert (
        load_model(
            ModelConfig(name=llava.config.name, attn_implementation="sdpa")
        ).config.text_config._attn_implementation
        == "sdpa"
    )
    llava.model.save_pretrained(tmp_path)
    again = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert again.config.text_config._attn_implementation == "sdpa"
    assert attention.NAME not in (tmp_path / "config.json").read_text()
