"""Attention without a mask against dense attention with one, in float64."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoModelForImageTextToText

from sightline.attention import attention
from sightline.config import ModelConfig
from sightline.layout import prefix, visible
from sightline.models.families.find import family_of
from sightline.models.load import load_model
from sightline.types import Batch
from tests.layout.written import write_group
from tests.loaded import Loaded

Load = Callable[..., Loaded]

GROUPS = {
    "one": [([1] * 9, [2] * 4, [3] * 6)],
    "single response": [([1] * 5, [2] * 3)],
    "responses that are not fed": [([1] * 5, [2], [3])],
    "ragged": [([1] * 9, [2] * 4, [3], [4] * 7), ([1] * 3, [2] * 5), ([1] * 6, [2] * 2, [3] * 2)],
}


def batch_of(name: str, two_way: bool, row_length: int | None) -> Batch:
    groups = [write_group(p, *rs, block=[0 if two_way else -1] * len(p)) for p, *rs in GROUPS[name]]
    return prefix.lay_out(groups, row_length)


@pytest.fixture(autouse=True)
def _no_group_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(attention, "SMALLEST_GROUP", 0)


@pytest.mark.parametrize("name", GROUPS)
@pytest.mark.parametrize("row_length", [None, 100], ids=["longest", "one row"])
@pytest.mark.parametrize("two_way", [False, True], ids=["causal", "two-way"])
@pytest.mark.parametrize("scaling", [None, 0.3])
def test_values_and_gradients_equal_dense_attention(
    name: str, row_length: int | None, two_way: bool, scaling: float | None
) -> None:
    batch = batch_of(name, two_way, row_length)
    spans = attention.spans_of(batch)
    assert spans is not None
    torch.manual_seed(0)
    rows, length = batch.input_ids.shape
    query = torch.randn(rows, 4, length, 8, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(rows, 2, length, 8, dtype=torch.float64, requires_grad=True) for _ in range(2))
    found, _ = attention.attend(nn.Module(), query, key, value, attention.mask_with(spans), scaling=scaling)
    expected = nn.functional.scaled_dot_product_attention(
        query, key, value, attn_mask=visible(batch)[:, None], scale=scaling, enable_gqa=True
    ).transpose(1, 2)
    real = batch.group >= 0
    torch.testing.assert_close(found[real], expected[real])
    assert not found[~real].any()
    weights = torch.randn_like(found) * real[..., None, None]
    found_gradients = torch.autograd.grad((found * weights).sum(), (query, key, value))
    expected_gradients = torch.autograd.grad((expected * weights).sum(), (query, key, value))
    torch.testing.assert_close(found_gradients, expected_gradients)


def test_half_precision_is_as_exact_as_dense_attention() -> None:
    batch = batch_of("ragged", False, None)
    spans = attention.spans_of(batch)
    assert spans is not None
    rows, length = batch.input_ids.shape
    exact = [torch.randn(rows, 4, length, 16) for _ in range(3)]
    half = [states.bfloat16() for states in exact]
    real = batch.group >= 0

    def dense(states: list[Tensor]) -> Tensor:
        return nn.functional.scaled_dot_product_attention(*states, attn_mask=visible(batch)[:, None]).transpose(1, 2)

    truth = dense([states.float() for states in half])[real]
    found, _ = attention.attend(nn.Module(), *half, attention.mask_with(spans))
    assert found.dtype == torch.bfloat16
    assert (found[real] - truth).abs().max() <= 2 * (dense(half)[real] - truth).abs().max()


def test_blocks_within_a_prompt_and_short_groups_get_a_dense_mask(monkeypatch: pytest.MonkeyPatch) -> None:
    image = write_group([1, 2, 3, 4], [5, 6], block=[-1, 0, 0, -1])
    assert attention.spans_of(prefix.lay_out([image])) is None
    plain = prefix.lay_out([write_group([1] * 100, [2] * 50)])
    assert attention.spans_of(plain) is not None
    monkeypatch.setattr(attention, "SMALLEST_GROUP", 1000)
    assert attention.spans_of(plain) is None


def test_the_carried_mask_is_useless_to_any_other_attention() -> None:
    spans = attention.spans_of(batch_of("one", False, None))
    assert spans is not None
    states = torch.randn(1, 1, 20, 4)
    with pytest.raises(RuntimeError):
        nn.functional.scaled_dot_product_attention(states, states, states, attn_mask=attention.mask_with(spans))


def test_a_window_or_dropout_gets_a_dense_mask(loaded: Load) -> None:
    mistral = loaded("idefics2_window")
    family = family_of(mistral.model)
    assert not hasattr(family.masks(prefix.lay_out([mistral.group()])), "spans")
    short = family.place(write_group([1, 2, 3], [4, 5]))
    assert hasattr(family.masks(prefix.lay_out([short])), "spans")
    llava = loaded("llava")
    llava.model.config.text_config.attention_dropout = 0.1
    batch = prefix.lay_out([llava.group()])
    assert hasattr(family_of(llava.model).masks(batch), "spans")
    llava.model.train()
    assert not hasattr(family_of(llava.model).masks(batch), "spans")


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
