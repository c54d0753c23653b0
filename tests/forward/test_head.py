"""The chunked head against `log_softmax(...).gather(...)` in float64."""

import pytest
import torch
from torch import Tensor

from sightline.forward.head import logits_on, token_log_probs

TARGETS, HIDDEN, VOCABULARY = 11, 6, 23

HOW = {
    "plain": {},
    "temperature": {"temperature": 0.7},
    "softcap": {"softcap": 2.0},
    "all": {"temperature": 1.7, "softcap": 1.5},
}


def drawn(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """hidden, weight, bias, target in float64."""
    g = torch.Generator().manual_seed(seed)
    options = {"generator": g, "dtype": torch.float64}
    hidden, weight = torch.randn(TARGETS, HIDDEN, **options), torch.randn(VOCABULARY, HIDDEN, **options)
    return hidden, weight, torch.randn(VOCABULARY, **options), torch.randint(VOCABULARY, (TARGETS,), generator=g)


def oracle_logits(hidden: Tensor, weight: Tensor, bias: Tensor | None, **how: float) -> Tensor:
    """Logits before temperature."""
    logits = hidden @ weight.T + (0 if bias is None else bias)
    return how["softcap"] * torch.tanh(logits / how["softcap"]) if "softcap" in how else logits


def oracle(hidden: Tensor, weight: Tensor, bias: Tensor | None, target: Tensor, **how: float) -> Tensor:
    logits = oracle_logits(hidden, weight, bias, **how) / how.get("temperature", 1.0)
    return logits.log_softmax(-1).gather(-1, target[:, None])[:, 0]


@pytest.mark.parametrize("chunk", [1, 4, TARGETS, 100, None])
@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
@pytest.mark.parametrize("trained", ["hidden", "hidden and head", "head", "nothing"])
@pytest.mark.parametrize("with_bias", [False, True], ids=["no bias", "bias"])
def test_values_and_gradients_equal_the_oracle(how: dict, trained: str, with_bias: bool, chunk: int | None) -> None:
    hidden, weight, bias, target = drawn()
    hidden.requires_grad_("hidden" in trained)
    weight.requires_grad_("head" in trained)
    bias.requires_grad_("head" in trained)
    used = bias if with_bias else None
    inputs = [t for t in (hidden, weight, used) if t is not None and t.requires_grad]
    found = token_log_probs(hidden, weight, used, target, chunk=chunk, **how).logp
    expected = oracle(hidden, weight, used, target, **how)
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)
    assert found.requires_grad == bool(inputs)
    if inputs:
        weights = torch.linspace(-1, 2, TARGETS, dtype=torch.float64)
        found_gradients = torch.autograd.grad((found * weights).sum(), inputs)
        expected_gradients = torch.autograd.grad((expected * weights).sum(), inputs)
        torch.testing.assert_close(found_gradients, expected_gradients, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("how", HOW.values(), ids=HOW.keys())
@pytest.mark.parametrize("chunk", [3, 100])
def test_statistics_equal_their_definitions(how: dict, chunk: int) -> None:
    hidden, weight, bias, target = drawn()
    found = token_log_probs(hidden, weight, bias, target, chunk=chunk, statistics=True, **how)
    logits = oracle_logits(hidden, weight, bias, **how)
    p = (logits / how.get("temperature", 1.0)).softmax(-1)
    torch.testing.assert_close(found.entropy, -(p * p.log()).sum(-1))
    torch.testing.assert_close(found.log_sum_sq, p.square().sum(-1).log())
    torch.testing.assert_close(found.mean_logit, logits.mean(-1))
    assert torch.equal(found.top1, logits.argmax(-1) == target)
    torch.testing.assert_close(found.logp, oracle(hidden, weight, bias, target, **how))


def test_statistics_leave_the_gradient_as_it_is() -> None:
    hidden, weight, _, target = drawn()
    hidden.requires_grad_()
    (without,) = torch.autograd.grad(token_log_probs(hidden, weight, None, target).logp.sum(), hidden)
    (with_them,) = torch.autograd.grad(
        token_log_probs(hidden, weight, None, target, statistics=True).logp.sum(), hidden
    )
    assert torch.equal(without, with_them)


def test_huge_logits_neither_overflow_nor_lose_the_target() -> None:
    hidden, weight, _, target = drawn()
    found = token_log_probs(1000 * hidden, weight, None, target, statistics=True)
    torch.testing.assert_close(found.logp, oracle(1000 * hidden, weight, None, target))
    assert found.entropy is not None and found.entropy.isfinite().all()


def test_half_precision_head_sums_in_float32() -> None:
    hidden, weight, _, target = drawn()
    half = token_log_probs(hidden.bfloat16(), weight.bfloat16(), None, target).logp
    assert half.dtype == torch.float32
    exact = oracle(hidden.bfloat16().double(), weight.bfloat16().double(), None, target)
    # one rounding of each logit to 8 bits, no more
    assert (half - exact).abs().max() < 0.03


def test_autocast_multiplies_in_its_precision_and_trains_the_head_in_float32() -> None:
    hidden, weight, _, target = drawn()
    hidden, weight = hidden.float().requires_grad_(), weight.float().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = token_log_probs(hidden, weight, None, target).logp
        expected = torch.nn.functional.linear(hidden, weight).float().log_softmax(-1).gather(-1, target[:, None])[:, 0]
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-5)
    found.sum().backward()
    assert weight.grad is not None and weight.grad.dtype == torch.float32
    (reference,) = torch.autograd.grad(oracle(hidden.double(), weight.double(), None, target).sum(), weight)
    assert (weight.grad - reference).norm() < 0.02 * reference.norm()


def test_no_targets_give_no_values() -> None:
    hidden, weight, _, target = drawn()
    found = token_log_probs(hidden[:0].requires_grad_(), weight, None, target[:0], statistics=True)
    assert found.logp.shape == (0,)
    found.logp.sum().backward()


def test_logits_of_all_targets_never_exist_at_once() -> None:
    largest = 0

    class Watch(torch.utils._python_dispatch.TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            nonlocal largest
            out = func(*args, **(kwargs or {}))
            if isinstance(out, Tensor):
                largest = max(largest, out.numel())
            return out

    weight = torch.randn(500, 4)
    for trained in (False, True):
        weight.requires_grad_(trained)
        hidden = torch.randn(64, 4, requires_grad=True)
        with Watch():
            token_log_probs(hidden, weight, None, torch.arange(64), chunk=8, statistics=True).logp.sum().backward()
    assert largest <= 8 * 500


@pytest.mark.parametrize(
    "device, gib, expected",
    [
        ("cpu", 80, 2**23),
        ("cuda", 4, 2**23),
        ("cuda", 24, 24 * 2**30 // 600),
        ("cuda", 80, 2**27),
        ("cuda", 141, 2**27),
    ],
)
def test_a_larger_device_takes_more_logits_at_a_time_up_to_512_mib(device: str, gib: int, expected: int) -> None:
    assert logits_on(torch.device(device), gib * 2**30) == expected
