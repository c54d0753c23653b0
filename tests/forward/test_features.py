"""Images go through the tower once a group and no oftener."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import nn

from sightline.config import LoraConfig, ReferenceConfig
from sightline.forward import features as features_module
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.forward.reference import build_reference
from sightline.layout import padded, prefix
from sightline.models.families.find import family_of
from sightline.models.load import unfreeze
from sightline.models.lora import add_lora
from tests.loaded import Loaded

Load = Callable[..., Loaded]


@contextmanager
def counted(tower: nn.Module) -> Iterator[list[int]]:
    """Sizes of the batches that went through the tower."""
    sizes: list[int] = []
    hook = tower.register_forward_pre_hook(
        lambda _, args, options: sizes.append(len(options.get("pixel_values", args[0] if args else None))),
        with_kwargs=True,
    )
    try:
        yield sizes
    finally:
        hook.remove()


def test_policy_and_reference_need_one_pass_of_the_tower(loaded: Load) -> None:
    llava = loaded("llava")
    policy = add_lora(llava.model, LoraConfig(r=2))
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None
    groups = [llava.group(seed=1), llava.group(seed=2, sizes=((20, 30), (40, 40))), llava.group(seed=3, sizes=())]
    with counted(llava.model.get_encoder("image")) as sizes:
        features = encode(policy, groups)
        for lay_out in (prefix.lay_out, padded.lay_out):
            batch = lay_out(groups)
            log_probs(policy, batch, groups=groups, features=features).logp.sum().backward()
            reference.log_probs(batch, groups=groups, features=features)
    assert sizes == [3]


def test_many_images_are_cut_into_calls_that_fit(loaded: Load, monkeypatch: pytest.MonkeyPatch) -> None:
    llava = loaded("llava")
    groups = [llava.group(seed=seed) for seed in range(5)]
    whole = encode(llava.model, groups)
    monkeypatch.setattr(features_module, "ELEMENTS_A_CALL", 2 * groups[0].model_inputs["pixel_values"].numel())
    with counted(llava.model.get_encoder("image")) as sizes:
        parts = encode(llava.model, groups)
    assert sizes == [2, 2, 1]
    assert whole is not None and parts is not None
    for a, b in zip(whole.pieces, parts.pieces, strict=True):
        assert a is not None and b is not None
        torch.testing.assert_close(a["pooled"], b["pooled"])


@pytest.mark.parametrize("name", ["idefics2", "idefics3", "llava_next", "mllama", "qwen3_vl"])
def test_images_of_different_sizes_encode_together_as_they_do_alone(loaded: Load, name: str) -> None:
    family = loaded(name)
    sizes = (((50, 70),), ((90, 40), (30, 80)), ((120, 60),))
    groups = [family.group(seed=seed, sizes=size) for seed, size in enumerate(sizes)]
    together = encode(family.model, groups)
    assert together is not None
    for g, group in enumerate(groups):
        alone = encode(family.model, [group])
        assert alone is not None
        found, expected = together.pieces[g], alone.pieces[0]
        assert found is not None and expected is not None and found.keys() == expected.keys()
        for part in expected:
            torch.testing.assert_close(found[part], expected[part], rtol=1e-4, atol=1e-5)


def test_features_of_a_part_of_the_step_can_be_picked_out(loaded: Load) -> None:
    llava = loaded("llava")
    groups = [llava.group(seed=1), llava.group(seed=2, sizes=()), llava.group(seed=3)]
    features = encode(llava.model, groups)
    assert features is not None
    whole = log_probs(llava.model, prefix.lay_out(groups), groups=groups, features=features)
    picked = [groups[2], groups[1]]
    part = log_probs(llava.model, prefix.lay_out(picked), groups=picked, features=features.select([2, 1]))
    expected = torch.cat([whole.logp[whole.response_group[whole.response] == g] for g in (2, 1)])
    torch.testing.assert_close(part.logp, expected)


def test_a_frozen_tower_is_in_evaluation_mode_and_out_of_the_graph(loaded: Load) -> None:
    llava = loaded("llava")
    model = unfreeze(llava.model, llava.config).train()
    tower = model.get_encoder("image")
    for layer in tower.modules():
        if hasattr(layer, "dropout"):
            layer.dropout = 0.5
    groups = [llava.group()]
    first, second = encode(model, groups), encode(model, groups)
    assert first is not None and second is not None
    a, b = first.pieces[0], second.pieces[0]
    assert a is not None and b is not None
    assert torch.equal(a["pooled"], b["pooled"]) and not a["pooled"].requires_grad
    assert tower.training, "the mode is given back"


def test_features_are_not_shared_where_tower_or_projector_train(loaded: Load) -> None:
    for frozen in ({"freeze_vision": False}, {"freeze_projector": False}):
        llava = loaded("llava", **frozen)
        assert encode(unfreeze(llava.model, llava.config), [llava.group()]) is None
    adapted = loaded("llava")
    policy = add_lora(adapted.model, LoraConfig(r=2, target_modules="all-linear"))
    assert encode(policy, [adapted.group()]) is None


def test_parts_of_a_model_are_told_apart_by_name(loaded: Load) -> None:
    family = family_of(loaded("qwen2_vl").model)
    names = [name for name, _ in family.model.named_parameters()]
    parts = {
        part: [n for n in names if family.part_of(n) == part] for part in ("language", "vision", "projector", "head")
    }
    assert all(".merger." in name for name in parts["projector"]) and parts["projector"]
    assert all(name.startswith("model.visual.") for name in parts["vision"]) and parts["vision"]
    assert parts["head"] == ["lm_head.weight"]
    assert all(name.startswith("model.language_model.") for name in parts["language"]) and parts["language"]
