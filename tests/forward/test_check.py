"""The comparison at start-up: agreement where the layouts are equal, and a loud no where they are not."""

from collections.abc import Callable

import pytest

from sightline.config import LoraConfig
from sightline.forward.check import compare_layouts
from sightline.models.lora import add_lora
from tests.loaded import Loaded

Load = Callable[..., Loaded]


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "idefics2_window", "mllama"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_layouts_agree(loaded: Load, name: str, dtype: str) -> None:
    family = loaded(name, dtype=dtype)
    policy = add_lora(family.model, LoraConfig(r=2, dropout=0.5)).train()
    found = compare_layouts(policy, [family.group()])
    assert found.agrees, found
    assert all(module.training for module in policy.modules())


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_model_that_ignores_our_mask_is_found_out(loaded: Load, monkeypatch: pytest.MonkeyPatch, dtype: str) -> None:
    llava = loaded("llava", dtype=dtype)
    monkeypatch.setattr("sightline.models.families.family.Family.masks", lambda self, batch: (batch.group >= 0).long())
    assert not compare_layouts(llava.model, [llava.group()]).agrees


def test_a_window_that_is_not_seen_is_found_out(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    mistral = loaded("idefics2_window")
    monkeypatch.setattr("sightline.models.families.family.Family.masks", lambda self, batch: self._mask(batch, None))
    assert not compare_layouts(mistral.model, [mistral.group()]).agrees
