"""A tower's windows in a few calls are the windows one by one, values and gradients."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from sightline.attention import choice, windows
from sightline.attention.choice import Choice
from sightline.attention.varlen import VarlenKernel
from sightline.models.families.find import family_of
from tests.fakegpu.flash import flash_on_cpu
from tests.loaded import Loaded

LENGTHS = {"one": [12], "alike": [8] * 6, "ragged": [8, 8, 4, 8, 2, 4, 4, 8]}


def one_by_one(states: list[Tensor], lengths: list[int]) -> Tensor:
    """[1, tokens, heads, size]"""
    parts = zip(*(one.split(lengths, 2) for one in states), strict=True)
    found = [nn.functional.scaled_dot_product_attention(q, k, v, scale=0.4) for q, k, v in parts]
    return torch.cat(found, 2).transpose(1, 2)


@pytest.mark.parametrize("on_cuda", [False, True], ids=["sdpa", "flash"])
@pytest.mark.parametrize("name", LENGTHS)
def test_windows_are_what_they_are_one_by_one(name: str, on_cuda: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    lengths = LENGTHS[name]
    torch.manual_seed(0)
    states = [torch.randn(1, 2, sum(lengths), 8, dtype=torch.float64, requires_grad=True) for _ in range(3)]
    ends = torch.tensor([0, *lengths]).cumsum(0).int()
    query, key, value = states
    with flash_on_cpu(exact=True) as flash:
        if on_cuda:
            monkeypatch.setattr(windows, "takes_flash", lambda *_: True)
        found, _ = windows.attend_windows(nn.Module(), query, key, value, None, scaling=0.4, cu_seq_lens_q=ends)
        assert flash.calls == ([f"forward {len(lengths)}"] if on_cuda else [])
        expected = one_by_one(states, lengths)
        torch.testing.assert_close(found, expected)
        weights = torch.randn_like(found)
        gradients = torch.autograd.grad((found * weights).sum(), states)
    torch.testing.assert_close(gradients, torch.autograd.grad((expected * weights).sum(), states))


def test_half_precision_on_a_gpu_takes_flash_and_float32_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(windows, "choose", lambda *_: Choice(kernel=VarlenKernel(), why=""))
    cuda = torch.device("cuda")
    assert windows.takes_flash(cuda, torch.bfloat16, 80) and not windows.takes_flash(
        torch.device("cpu"), torch.bfloat16, 80
    )
    assert choice.states_refused(torch.float32, 80, (9, 0))


def test_a_frozen_tower_of_qwen_calls_attention_once_a_size_and_layer_and_keeps_its_config(
    loaded: Callable[..., Loaded], monkeypatch: pytest.MonkeyPatch
) -> None:
    qwen = loaded("qwen2_5_vl")
    groups = [qwen.group(sizes=((140, 90), (56, 84))), qwen.group(seed=1, sizes=((90, 60),))]
    config, called = qwen.model.config.vision_config, []
    usual = windows._sdpa

    def counted(*arguments):
        called.append(1)
        return usual(*arguments)

    monkeypatch.setattr(windows, "_sdpa", counted)
    with torch.no_grad():
        found = family_of(qwen.model).encode(groups)
    assert 0 < len(called) <= 4 * config.depth and config._attn_implementation == "sdpa"
    called.clear()
    expected = family_of(qwen.model).encode(groups)  # one call a window, as where the tower trains
    assert not called
    for one, other in zip(found, expected, strict=True):
        torch.testing.assert_close(one["pooled"], other["pooled"].detach())
