"""Shared prefix = padded = plain separate forwards: log-probs and gradients, for every family, and what must fail."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import ProcessorMixin

from sightline.config import LoraConfig, ModelConfig
from sightline.forward import plain
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.families.qwen import QwenFamily
from sightline.models.load import load_model, load_processor, unfreeze
from sightline.models.lora import add_lora
from sightline.rehearsal.every_type import gradients, worst_gradient
from sightline.types import Batch, Group
from tests.groups import make_group

SHARED = [
    "gemma3",
    "idefics2",
    "idefics2_window",
    "idefics3",
    "internvl",
    "llava",
    "llava_next",
    "mllama",
    "paligemma",
    "paligemma2",
    "qwen2_5_vl",
    "qwen2_vl",
    "qwen3_5",
    "qwen3_5_moe",
    "qwen3_vl",
    "qwen3_vl_moe",
    "smolvlm",
]
ALL = SHARED
KERNELS = [(name, kernel) for kernel in ("auto", "sdpa") for name in SHARED if (name, kernel) != ("paligemma2", "sdpa")]
"""Gemma 2, inside PaliGemma 2, has no sdpa: its scores are capped."""
LOGP, GRADIENT = 1e-5, 1e-3
"""Largest absolute difference of a log-prob, in nats; largest relative difference of a parameter's gradient."""

Load = Callable[..., tuple[nn.Module, list[Group]]]


@pytest.fixture(autouse=True)
def _no_group_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    """The attention without a mask serves the short groups of these tests, too."""
    monkeypatch.setattr("sightline.attention.attention.SMALLEST_GROUP", 0)


@pytest.fixture(scope="module")
def load(tiny_model: Callable[[str], Path]) -> Load:
    @cache
    def processor(name: str) -> ProcessorMixin:
        return load_processor(ModelConfig(name=str(tiny_model(name))))

    def loaded(
        name: str, *, lora: bool = False, attention: str = "auto", **frozen: bool
    ) -> tuple[nn.Module, list[Group]]:
        config = ModelConfig(name=str(tiny_model(name)), attn_implementation=attention, **frozen)
        model = load_model(config)
        if lora:
            torch.manual_seed(0)
            model = add_lora(model, LoraConfig(r=4))
            for parameter_name, parameter in model.named_parameters():
                if "lora_B" in parameter_name:
                    nn.init.normal_(parameter, std=0.05)
        else:
            unfreeze(model, config)
        return model, step_of_groups(processor(name))

    return loaded


def step_of_groups(processor: ProcessorMixin) -> list[Group]:
    """Ragged groups with 3, 2, 1 and 1 responses, one or two images of different sizes, and one without any."""
    groups = [
        make_group(processor, sizes=((50, 70),), lengths=(7, 1, 11), seed=0),
        make_group(processor, sizes=((90, 40), (30, 80)), lengths=(4, 9), seed=1, question="Describe the image."),
        make_group(processor, sizes=((56, 56),), lengths=(5,), seed=2, question="yes or no"),
    ]
    # PaliGemma's processor takes no prompt without an image
    return [*groups, make_group(processor, sizes=(), lengths=(6,), seed=3)] if processor.chat_template else groups


def place(model: nn.Module, groups: list[Group]) -> list[Group]:
    return [family_of(model).place(group) for group in groups]


def score(model: nn.Module, groups: list[Group], batch: Batch) -> Tensor:
    return log_probs(model, batch, groups=groups, features=encode(model, groups)).logp


def plain_scores(model: nn.Module, groups: list[Group]) -> Tensor:
    model_type = family_of(model).name
    return torch.cat([logp for group in groups for logp in plain.log_probs(model, group, model_type)])


@pytest.mark.parametrize("name, attention", KERNELS)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_shared_prefix_equals_plain_forwards_in_values_and_gradients(
    load: Load, name: str, lora: bool, attention: str
) -> None:
    model, groups = load(name, lora=lora, attention=attention)
    groups = place(model, groups)
    batch = prefix.lay_out(groups)
    expected = plain_scores(model, groups)
    expected_gradients = gradients(model, expected)
    found = score(model, groups, batch)
    assert (found - expected).abs().max() <= LOGP
    first = torch.cat([torch.ones(1, dtype=torch.bool), batch.response[1:] != batch.response[:-1]])
    assert first.sum() == len(batch.response_group)
    assert (found - expected)[first].abs().max() <= LOGP, "the first token of a response"
    found_gradients = gradients(model, found)
    assert found_gradients.keys() <= expected_gradients.keys()
    assert worst_gradient(found_gradients, expected_gradients) <= GRADIENT


@pytest.mark.parametrize("name", ALL)
def test_padded_equals_plain_forwards_in_values_and_gradients(load: Load, name: str) -> None:
    model, groups = load(name)
    expected = plain_scores(model, groups)
    expected_gradients = gradients(model, expected)
    found = score(model, groups, padded.lay_out(groups))
    assert (found - expected).abs().max() <= LOGP
    assert worst_gradient(gradients(model, found), expected_gradients) <= GRADIENT


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
def test_checkpointing_changes_neither_values_nor_gradients(load: Load, name: str, lora: bool) -> None:
    model, groups = load(name, lora=lora)
    groups = place(model, groups)
    batch = prefix.lay_out(groups)
    kept = score(model, groups, batch)
    kept_gradients = gradients(model, kept)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    model.train()
    recomputed = score(model, groups, batch)
    assert (recomputed - kept).abs().max() <= LOGP
    assert worst_gradient(gradients(model, recomputed), kept_gradients) <= GRADIENT


@pytest.mark.parametrize("name", SHARED)
def test_a_trained_tower_gets_the_gradient_of_plain_forwards(load: Load, name: str) -> None:
    model, groups = load(name, freeze_vision=False, freeze_projector=False)
    groups = place(model, groups)
    assert encode(model, groups) is None
    expected = plain_scores(model, groups)
    expected_gradients = gradients(model, expected)
    assert any(family_of(model).part_of(n) == "vision" for n in expected_gradients)
    found = score(model, groups, prefix.lay_out(groups))
    assert (found - expected).abs().max() <= LOGP
    assert worst_gradient(gradients(model, found), expected_gradients) <= GRADIENT


@pytest.mark.parametrize("name", ["idefics3", "llava", "qwen2_vl", "gemma3", "mllama"])
def test_eager_attention_equals_plain_forwards(load: Load, name: str) -> None:
    model, groups = load(name, attention="eager")
    groups = place(model, groups)
    assert (score(model, groups, prefix.lay_out(groups)) - plain_scores(model, groups)).abs().max() <= LOGP


@pytest.mark.parametrize("name", SHARED)
@pytest.mark.parametrize("row_length", [1, 100, 10_000], ids=["a group a row", "some", "one row"])
def test_how_groups_share_rows_does_not_matter(load: Load, name: str, row_length: int) -> None:
    model, groups = load(name)
    groups = place(model, groups)
    with torch.no_grad():
        expected = plain_scores(model, groups)
        found = score(model, groups, prefix.lay_out(groups, row_length))
    assert (found - expected).abs().max() <= LOGP


@pytest.mark.parametrize("num_responses", [1, 2, 8])
def test_any_number_of_responses(load: Load, tiny_model: Callable[[str], Path], num_responses: int) -> None:
    model, _ = load("llava")
    processor = load_processor(ModelConfig(name=str(tiny_model("llava"))))
    lengths = (7, 1, 11, 2, 5, 1, 3, 9)[:num_responses]
    groups = place(model, [make_group(processor, lengths=lengths)])
    with torch.no_grad():
        expected = plain_scores(model, groups)
        assert (score(model, groups, prefix.lay_out(groups)) - expected).abs().max() <= LOGP


@pytest.mark.parametrize("name", SHARED)
def test_changing_one_response_leaves_the_others_untouched(load: Load, name: str) -> None:
    model, groups = load(name)
    groups = place(model, groups)
    group = groups[0]
    changed = replace(group, responses=(group.responses[0].flip(0) + 1, *group.responses[1:]))
    batch = prefix.lay_out(groups, 10_000)
    with torch.no_grad():
        before = score(model, groups, batch)
        others = [changed, *groups[1:]]
        after = score(model, others, prefix.lay_out(others, 10_000))
    assert torch.equal(before[batch.response > 0], after[batch.response > 0])
    assert (before - after)[batch.response == 0].abs().min() > 1e-4


@pytest.mark.parametrize("name", SHARED)
def test_a_leak_between_responses_is_seen(load: Load, name: str) -> None:
    model, groups = load(name)
    groups = place(model, groups)
    batch = prefix.lay_out(groups)
    # the second response passes for part of the first
    leaky = replace(batch, segment=torch.where(batch.segment >= 2, 1, batch.segment))
    assert _differs(model, groups, leaky)


@pytest.mark.parametrize("name", SHARED)
def test_positions_that_do_not_restart_are_seen(load: Load, name: str) -> None:
    model, groups = load(name)
    groups = place(model, groups)
    batch = prefix.lay_out(groups)
    assert batch.position_ids is not None
    running = torch.arange(batch.input_ids.shape[1]).expand_as(batch.position_ids)
    assert _differs(model, groups, replace(batch, position_ids=running))


@pytest.mark.parametrize("name", SHARED)
def test_another_image_is_seen(load: Load, name: str) -> None:
    model, groups = load(name)
    groups = place(model, groups)
    inputs = groups[0].model_inputs
    other = replace(groups[0], model_inputs={**inputs, "pixel_values": inputs["pixel_values"].flip(-1)})
    with torch.no_grad():
        expected = plain_scores(model, groups)
        found = score(model, [other, *groups[1:]], prefix.lay_out(groups))
    assert (found - expected).abs().max() > 1e-3


def _differs(model: nn.Module, groups: list[Group], batch: Batch) -> bool:
    with torch.no_grad():
        return bool((score(model, groups, batch) - plain_scores(model, groups)).abs().max() > 1e-3)


def test_linear_attention_that_knows_no_fork_leaks_and_is_seen(load: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    model, groups = load("qwen3_5")
    groups = place(model, groups)
    assert family_of(model).layout == "prefix"
    monkeypatch.setattr("sightline.models.families.hybrid.HybridFamily.masks", QwenFamily.masks)
    assert _differs(model, groups, prefix.lay_out(groups))
