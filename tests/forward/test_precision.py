"""Every family with weights in float32 and bfloat16, with and without autocast: float32 numbers but for rounding."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from transformers import AutoConfig

from sightline.config import LoraConfig, ModelConfig
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor, unfreeze
from sightline.models.lora import add_lora
from sightline.types import Group
from tests.forward.test_equivalence import SHARED, gradients
from tests.groups import make_group

PRECISIONS = [("float32", True), ("bfloat16", False), ("bfloat16", True)]
LOGP, GRADIENT = 0.15, 0.2
"""Largest difference of a log-prob (nats, of some 6) and of the whole gradient (relative) that rounding explains."""


def every_expert(folder: Path, into: Path) -> Path:
    """The same model with every expert at work.

    A choice of experts is no rounding: where two of them score alike, bfloat16 takes the other one, and which tokens
    that happens to depends on the processor.
    """
    config = AutoConfig.from_pretrained(folder)
    text = config.get_text_config()
    if not hasattr(text, "num_experts_per_tok"):
        return folder
    shutil.copytree(folder, into)
    text.num_experts_per_tok = text.num_experts
    config.save_pretrained(into)
    return into


@pytest.fixture(autouse=True)
def _no_group_is_too_short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sightline.attention.attention.SMALLEST_GROUP", 0)


def autocast(on: bool) -> AbstractContextManager:
    return torch.autocast("cpu", dtype=torch.bfloat16) if on else nullcontext()


def loaded(folder: Path, *, dtype: str, attention: str, lora: bool) -> tuple[nn.Module, list[Group]]:
    config = ModelConfig(name=str(folder), dtype=dtype, attn_implementation=attention)
    model = load_model(config)
    if lora:
        torch.manual_seed(0)
        model = add_lora(model, LoraConfig(r=4))
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                nn.init.normal_(parameter, std=0.05)
    else:
        unfreeze(model, config)
    processor = load_processor(config)
    groups = [
        make_group(processor, sizes=((50, 70),), lengths=(7, 1, 11), seed=0),
        make_group(processor, sizes=((90, 40), (30, 80)), lengths=(4, 9), seed=1),
    ]
    return model, [family_of(model).place(group) for group in groups]


def scored(model: nn.Module, groups: list[Group], *, layout: str, with_autocast: bool) -> Tensor:
    batch = (prefix if layout == "prefix" else padded).lay_out(groups)
    with autocast(with_autocast):
        return log_probs(model, batch, groups=groups, features=encode(model, groups)).logp


EXACT: dict[tuple[Path, bool], tuple[Tensor, dict[str, Tensor]]] = {}
"""Log-probs and gradients in float32 of a saved model, without and with LoRA: computed once for all precisions."""


def in_float32(saved: Path, lora: bool, folder: Path) -> tuple[Tensor, dict[str, Tensor]]:
    """Those of the model in `folder`, made of the saved one."""
    if (saved, lora) not in EXACT:
        model, groups = loaded(folder, dtype="float32", attention="auto", lora=lora)
        logp = scored(model, groups, layout="prefix", with_autocast=False)
        EXACT[saved, lora] = logp.detach(), gradients(model, logp)
    return EXACT[saved, lora]


def whole(found: dict[str, Tensor], names: list[str]) -> Tensor:
    return torch.cat([found[name].double().flatten() for name in names])


@pytest.mark.parametrize("dtype, with_autocast", PRECISIONS, ids=["autocast", "bf16", "bf16-autocast"])
@pytest.mark.parametrize("attention", ["auto", "sdpa"])
@pytest.mark.parametrize("lora", [False, True], ids=["full", "lora"])
@pytest.mark.parametrize("name", SHARED)
def test_every_precision_gives_the_values_and_gradients_of_float32_but_for_rounding(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    lora: bool,
    attention: str,
    dtype: str,
    with_autocast: bool,
) -> None:
    if (name, attention) == ("paligemma2", "sdpa"):
        return  # Gemma 2 has no sdpa: its scores are capped
    folder = every_expert(tiny_model(name), tmp_path / "model")
    expected, expected_gradients = in_float32(tiny_model(name), lora, folder)
    model, groups = loaded(folder, dtype=dtype, attention=attention, lora=lora)
    found = scored(model, groups, layout="prefix", with_autocast=with_autocast)
    assert (found.float() - expected).abs().max() <= LOGP
    found_gradients = gradients(model, found.float())
    assert found_gradients.keys() == expected_gradients.keys()
    names = sorted(expected_gradients)
    right = whole(expected_gradients, names)
    assert (whole(found_gradients, names) - right).norm() <= GRADIENT * right.norm()


def trained_parts(
    folder: Path, freeze_vision: bool, freeze_projector: bool, dtype: str, with_autocast: bool
) -> tuple[Tensor, set[str]]:
    """Log-probs of a row, and the weights that have a gradient."""
    config = ModelConfig(name=str(folder), dtype=dtype, freeze_vision=freeze_vision, freeze_projector=freeze_projector)
    model = load_model(config)
    unfreeze(model, config)
    group = family_of(model).place(make_group(load_processor(config), sizes=((50, 70),), lengths=(7, 1)))
    logp = scored(model, [group], layout="prefix", with_autocast=with_autocast)
    return logp.detach().float(), set(gradients(model, logp.float()))


PARTS: dict[tuple[Path, bool, bool], tuple[Tensor, set[str]]] = {}
"""`trained_parts` in float32, by saved model and what of it is frozen."""


def with_trained_parts(
    saved: Path, folder: Path, freeze_vision: bool, freeze_projector: bool
) -> tuple[Tensor, set[str]]:
    """`trained_parts` in float32 of the model in `folder`, made of the saved one; computed once."""
    key = (saved, freeze_vision, freeze_projector)
    if key not in PARTS:
        PARTS[key] = trained_parts(folder, freeze_vision, freeze_projector, "float32", False)
    return PARTS[key]


@pytest.mark.parametrize("dtype, with_autocast", PRECISIONS, ids=["autocast", "bf16", "bf16-autocast"])
@pytest.mark.parametrize("freeze_vision, freeze_projector", [(True, False), (False, True), (False, False)])
@pytest.mark.parametrize("name", SHARED)
def test_a_trained_tower_or_projector_beside_frozen_parts_has_gradients_in_every_precision(
    tiny_model: Callable[[str], Path],
    tmp_path: Path,
    name: str,
    freeze_vision: bool,
    freeze_projector: bool,
    dtype: str,
    with_autocast: bool,
) -> None:
    folder = every_expert(tiny_model(name), tmp_path / "model")
    right, names = with_trained_parts(tiny_model(name), folder, freeze_vision, freeze_projector)
    near, trained = trained_parts(folder, freeze_vision, freeze_projector, dtype, with_autocast)
    assert (near - right).abs().max() <= LOGP
    assert trained == names
