"""The reference: where the policy started, however far it has moved."""

from collections.abc import Callable

import pytest
import torch
from torch import nn

from sightline.config import LoraConfig, ReferenceConfig
from sightline.errors import RecipeError
from sightline.forward.features import encode
from sightline.forward.forward import log_probs
from sightline.forward.reference import build_reference
from sightline.layout import prefix
from sightline.models.load import unfreeze
from sightline.models.lora import add_lora
from tests.loaded import Loaded

Load = Callable[..., Loaded]


def policy_of(llava: Loaded, lora: bool) -> nn.Module:
    return add_lora(llava.model, LoraConfig(r=2, dropout=0.5)) if lora else unfreeze(llava.model, llava.config)


def move(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))


@pytest.mark.parametrize("lora", [True, False], ids=["adapter-off", "frozen-copy"])
def test_it_stays_where_the_policy_started(loaded: Load, lora: bool) -> None:
    llava = loaded("llava")
    groups = [llava.group(seed=1), llava.group(seed=2)]
    batch = prefix.lay_out(groups)
    start = log_probs(llava.model, batch, groups=groups, features=None).logp
    policy = policy_of(llava, lora)
    reference = build_reference(policy, ReferenceConfig(), has_lora=lora, needed=True)
    assert reference is not None and reference.mode == ("adapter-off" if lora else "frozen-copy")
    move(policy)
    policy.train()
    features = encode(policy, groups)
    found = reference.log_probs(batch, groups=groups, features=features, statistics=True)
    torch.testing.assert_close(found.logp, start)
    assert not found.logp.requires_grad and found.entropy is not None
    moved = log_probs(policy, batch, groups=groups, features=features).logp
    assert (moved - start).abs().max() > 0.01


@pytest.mark.parametrize("lora", [True, False], ids=["adapter-off", "frozen-copy"])
def test_asking_it_between_forward_and_backward_leaves_the_policy_as_it_is(loaded: Load, lora: bool) -> None:
    llava = loaded("llava")
    policy = policy_of(llava, lora)
    reference = build_reference(policy, ReferenceConfig(), has_lora=lora, needed=True)
    assert reference is not None
    move(policy)
    group = llava.group()
    batch, features = prefix.lay_out([group]), encode(policy, [group])
    policy.eval()

    def gradients(ask: bool) -> list[torch.Tensor]:
        policy.zero_grad()
        logp = log_probs(policy, batch, groups=[group], features=features).logp
        if ask:
            reference.log_probs(batch, groups=[group], features=features)
        logp.sum().backward()
        return [p.grad.clone() for p in policy.parameters() if p.requires_grad and p.grad is not None]

    trained = [p.requires_grad for p in policy.parameters()]
    for found, expected in zip(gradients(True), gradients(False), strict=True):
        assert torch.equal(found, expected)
    assert [p.requires_grad for p in policy.parameters()] == trained
    policy.train()
    reference.log_probs(batch, groups=[group], features=features)
    assert all(module.training for module in policy.modules()) or not lora


def test_a_copy_shares_what_is_never_trained(loaded: Load) -> None:
    llava = loaded("llava")
    policy = unfreeze(llava.model, llava.config)
    reference = build_reference(policy, ReferenceConfig(), has_lora=False, needed=True)
    assert reference is not None
    copied = dict(reference.model.named_parameters())
    for name, parameter in policy.named_parameters():
        assert (copied[name] is parameter) == (not parameter.requires_grad), name
    assert not any(p.requires_grad for n, p in copied.items())


def test_an_adapter_that_is_trained_further_is_part_of_the_start(loaded: Load) -> None:
    llava = loaded("llava")
    policy = policy_of(llava, lora=True)
    move(policy)
    policy.eval()
    group = llava.group()
    batch, features = prefix.lay_out([group]), encode(policy, [group])
    start = log_probs(policy, batch, groups=[group], features=features).logp.detach()
    reference = build_reference(policy, ReferenceConfig(), has_lora=True, needed=True)
    assert reference is not None and reference.mode == "frozen-copy"
    own = {id(p) for p in policy.parameters()}
    added = sum(p.numel() for p in reference.model.parameters() if id(p) not in own)
    assert added == sum(p.numel() for p in policy.parameters() if p.requires_grad), "a copy of the adapter alone"
    move(policy)
    torch.testing.assert_close(reference.log_probs(batch, groups=[group], features=features).logp, start)


def test_what_means_nothing_is_refused(loaded: Load) -> None:
    model = loaded("llava").model
    assert build_reference(model, ReferenceConfig(), has_lora=False, needed=False) is None
    assert build_reference(model, ReferenceConfig(type="none"), has_lora=False, needed=False) is None
    with pytest.raises(RecipeError, match="compares with no reference"):
        build_reference(model, ReferenceConfig(type="frozen-copy"), has_lora=False, needed=False)
    with pytest.raises(RecipeError, match="needs a reference"):
        build_reference(model, ReferenceConfig(type="none"), has_lora=True, needed=True)
    with pytest.raises(RecipeError, match="no adapter is trained"):
        build_reference(model, ReferenceConfig(type="adapter-off"), has_lora=False, needed=True)
