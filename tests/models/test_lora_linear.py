"""The fused adapted layer against peft's own, with one precision and under autocast; a reference without adapters."""

from collections.abc import Iterator

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn

from sightline.models import lora_linear
from sightline.models.lora_linear import FusedLinear, fuse
from sightline.models.unwrap import in_eval_mode, without_adapters


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[int]]:
    """One entry for every time that the fused function ran."""
    made: list[int] = []
    usual = lora_linear._LowRankSum.apply

    def apply(*arguments):
        made.append(1)
        return usual(*arguments)

    monkeypatch.setattr(lora_linear._LowRankSum, "apply", apply)
    yield made


def adapted(base: torch.dtype, **options) -> PeftModel:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(32, 48), nn.Linear(48, 16, bias=False)).to(base)
    found = get_peft_model(model, LoraConfig(r=4, target_modules=["0", "1"], **options))  # pyright: ignore
    for name, weight in found.named_parameters():
        if "lora_" in name:
            weight.data = torch.randn(weight.shape) * 0.2
    return found  # pyright: ignore


def values(model: nn.Module, x: Tensor, autocast: bool) -> tuple[Tensor, list[Tensor]]:
    x = x.clone().requires_grad_()
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        y = model(x)
    trained = [p for p in model.parameters() if p.requires_grad]
    return y, [*torch.autograd.grad(y.float().square().sum(), [x, *trained])]


@pytest.mark.parametrize("base", [torch.float32, torch.bfloat16])
def test_under_autocast_it_is_as_exact_as_peft(calls: list[int], base: torch.dtype) -> None:
    """A bfloat16 base with float32 adapters is what trains on GPUs. Both are compared with float32 throughout."""
    x = torch.randn(3, 7, 32)
    model, exact = adapted(base), adapted(base).float()
    truth, true_gradients = values(exact, x, autocast=False)
    plain, plain_gradients = values(model, x, autocast=True)
    assert not calls
    fuse(model)
    found, gradients = values(model, x, autocast=True)
    assert len(calls) == 2 and found.dtype == torch.bfloat16
    assert (found - truth).norm() <= 1.2 * (plain - truth).norm()
    assert all(one.dtype == torch.float32 for one in gradients)
    for one, other, right in zip(gradients, plain_gradients, true_gradients, strict=True):
        assert (one - right).norm() <= 1.5 * (other - right).norm() + 1e-3 * right.norm()


def test_in_one_precision_it_is_peft_to_rounding(calls: list[int]) -> None:
    x, model = torch.randn(5, 32), adapted(torch.float32)
    plain, plain_gradients = values(model, x, autocast=False)
    fuse(model)
    found, gradients = values(model, x, autocast=False)
    assert len(calls) == 2
    torch.testing.assert_close(found, plain)
    torch.testing.assert_close(gradients, plain_gradients)


def test_dropout_and_two_precisions_without_autocast_are_left_to_peft(calls: list[int]) -> None:
    model = adapted(torch.float32, lora_dropout=0.5)
    fuse(model)
    assert all(isinstance(one, FusedLinear) for one in model.modules() if isinstance(one, PeftLinear))
    model.train()
    values(model, torch.randn(5, 32), autocast=True)
    assert not calls
    with in_eval_mode(model):
        values(model, torch.randn(5, 32), autocast=True)
    assert len(calls) == 2 and model.training, "nothing drops out in evaluation mode"
    calls.clear()
    mixed = adapted(torch.bfloat16)
    fuse(mixed)
    mixed(torch.randn(5, 32).bfloat16())
    assert not calls


@pytest.mark.parametrize("saved", [None, ["1"]], ids=["adapters", "a whole module too"])
def test_without_adapters_is_what_pefts_own_gives_and_everything_comes_back(saved: list[str] | None) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    found: PeftModel = get_peft_model(model, LoraConfig(r=2, target_modules=["0"], modules_to_save=saved))  # pyright: ignore
    with torch.no_grad():
        for weight in (p for p in found.parameters() if p.requires_grad):
            weight.add_(torch.randn_like(weight))
    x, trained = torch.randn(4, 8), [p.requires_grad for p in found.parameters()]
    adapted_output = found(x)
    with found.disable_adapter():
        expected = found(x)
    with without_adapters(found):
        assert torch.equal(found(x), expected)
    assert not torch.equal(expected, adapted_output)
    assert torch.equal(found(x), adapted_output)
    assert [p.requires_grad for p in found.parameters()] == trained
