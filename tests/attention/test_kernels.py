"""Every kernel gives one answer: the slow oracle's, values and gradients, on every kind of grid."""

import itertools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import pytest
import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.checkpoint import checkpoint

from sightline.attention import attention
from sightline.attention.cpu import CpuKernel
from sightline.attention.plain import PlainKernel
from sightline.attention.spans import spans_of
from sightline.attention.varlen import VarlenKernel
from sightline.layout import prefix, visible
from sightline.types import Batch, Group
from tests.fakegpu.flash import flash_on_cpu
from tests.layout.written import write_group

CPU = torch.device("cpu")
KERNELS = {"cpu": CpuKernel, "cuda": VarlenKernel, "plain": PlainKernel}
HEADS, KEY_HEADS, SIZE = 4, 2, 8
GROUPS = {
    "one": [([1] * 9, [2] * 4, [3] * 6)],
    "a prompt of 8 tokens": [([1] * 8, [2] * 5)],
    "no response": [([1] * 9,)],
    "responses that are not fed": [([1] * 5, [2], [3])],
    "one token of each response": [([1] * 7, [2] * 2, [3] * 2, [4] * 2)],
    "eight": [([1] * 6, *[[2] * n for n in (3, 2, 9, 1, 4, 7, 2, 5)])],
    "sixty-four": [([1] * 5, *[[2] * (2 + n % 3) for n in range(64)])],
    "ragged": [([1] * 9, [2] * 4, [3], [4] * 7), ([1] * 3, [2] * 5), ([1] * 6,), ([1] * 6, [2] * 2, [3] * 2)],
}


def groups_of(name: str, block: Callable[[int], list[int]]) -> list[Group]:
    return [write_group(p, *rs, block=block(len(p))) for p, *rs in GROUPS[name]]


BLOCKS = {
    "causal": lambda n: [-1] * n,
    "two-way": lambda n: [0] * n,
    # an image after the first token, as long as there is room for the last
    "blocks": lambda n: [-1, *([0] * (n - 2)), -1],
}


def states_of(batch: Batch, dtype: torch.dtype = torch.float64, size: int = SIZE) -> list[Tensor]:
    torch.manual_seed(0)
    rows, length = batch.input_ids.shape
    shapes = ((rows, heads, length, size) for heads in (HEADS, KEY_HEADS, KEY_HEADS))
    return [torch.randn(shape, dtype=dtype, requires_grad=True) for shape in shapes]


class Layer(nn.Module):
    def __init__(self, number: int) -> None:
        super().__init__()
        self.layer_idx = number


@contextmanager
def usable(kernel: str, *, exact: bool = True) -> Iterator[None]:
    with flash_on_cpu(exact=exact) if kernel == "cuda" else nullcontext():
        yield


def run(kernel: str, batch: Batch, states: list[Tensor], *, last: bool = False, scaling: float | None = None) -> Tensor:
    """[rows, length, heads, size] as a layer of the model gets it."""
    plan = attention.plan_with(KERNELS[kernel](), spans_of(batch, last_layer=3), CPU)
    query, key, value = states
    return attention.attend(Layer(3 if last else 2), query, key, value, attention.mask_with(plan), scaling=scaling)[0]


def dense(batch: Batch, states: list[Tensor], scaling: float | None = None) -> Tensor:
    found = nn.functional.scaled_dot_product_attention(
        *states, attn_mask=visible(batch)[:, None], scale=scaling, enable_gqa=True
    )
    return found.transpose(1, 2)


def read_in(batch: Batch, *, last: bool) -> Tensor:
    """[rows, length] the tokens that somebody reads."""
    ends = batch.segment == 0
    ends &= nn.functional.pad(ends[:, 1:] & (batch.rank[:, 1:] > 0), (0, 1)).logical_not()
    return (batch.segment > 0) | ends if last else batch.group >= 0


@pytest.mark.parametrize("kernel", KERNELS)
@pytest.mark.parametrize("last", [False, True], ids=["any layer", "last layer"])
@pytest.mark.parametrize("row_length", [None, 100], ids=["longest", "one row"])
@pytest.mark.parametrize("sees", BLOCKS)
@pytest.mark.parametrize("name", GROUPS)
def test_values_and_gradients_equal_dense_attention(
    name: str, sees: str, row_length: int | None, last: bool, kernel: str
) -> None:
    batch = prefix.lay_out(groups_of(name, BLOCKS[sees]), row_length)
    states, read = states_of(batch), read_in(batch, last=last)
    scaling = 0.3 if last else None
    with usable(kernel):
        found, expected = run(kernel, batch, states, last=last, scaling=scaling), dense(batch, states, scaling)
        torch.testing.assert_close(found[read], expected[read])
        weights = torch.randn_like(found) * read[..., None, None]
        found_gradients = torch.autograd.grad((found * weights).sum(), states)
    expected_gradients = torch.autograd.grad((expected * weights).sum(), states)
    torch.testing.assert_close(found_gradients, expected_gradients)


@pytest.mark.parametrize("kernel", ["cpu", "cuda"])
@pytest.mark.parametrize("sees", BLOCKS)
def test_half_precision_is_as_exact_as_dense_attention(sees: str, kernel: str) -> None:
    batch = prefix.lay_out(groups_of("ragged", BLOCKS[sees]))
    exact = [one.detach() for one in states_of(batch, torch.float32, size=16)]
    half = [one.bfloat16().requires_grad_() for one in exact]
    read = read_in(batch, last=False)
    truth = dense(batch, [one.detach().float() for one in half])[read]
    with usable(kernel, exact=False):
        found = run(kernel, batch, half)
        assert found.dtype == torch.bfloat16
        gradients = torch.autograd.grad((found.float() * read[..., None, None]).square().sum(), half)
    assert (found[read] - truth).abs().max() <= 2 * (dense(batch, half)[read] - truth).abs().max()
    reference = [one.detach().float().requires_grad_() for one in half]
    expected = torch.autograd.grad((dense(batch, reference) * read[..., None, None]).square().sum(), reference)
    for one, other in zip(gradients, expected, strict=True):
        assert (one.float() - other).norm() <= 0.02 * other.norm()


@pytest.mark.parametrize("kernel", KERNELS)
def test_a_recomputed_layer_finds_the_plan_again(kernel: str) -> None:
    batch = prefix.lay_out(groups_of("ragged", BLOCKS["causal"]))
    states = states_of(batch)
    with usable(kernel):
        kept = run(kernel, batch, states)
        again = checkpoint(run, kernel, batch, states, use_reentrant=False)
        assert torch.equal(kept, again)
        for one, other in zip(*(torch.autograd.grad(out.square().sum(), states) for out in (kept, again)), strict=True):
            torch.testing.assert_close(one, other)


class Largest(TorchDispatchMode):
    """The largest tensor that any operator makes, in elements."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_dispatch__(self, operator, types, args=(), kwargs=None):
        found = operator(*args, **(kwargs or {}))
        made = found if isinstance(found, (tuple, list)) else [found]
        self.elements = max([self.elements, *(one.numel() for one in made if isinstance(one, Tensor))])
        return found


@pytest.mark.parametrize("kernel", ["cpu", "cuda"])
def test_a_long_prompt_takes_memory_in_proportion_to_its_length(kernel: str) -> None:
    """32,768 tokens, of which the scores alone would be a thousand million; the last and the responses are compared."""
    length = 32_768
    batch = prefix.lay_out([write_group([1] * length, [2] * 6, [3] * 9)])
    total = batch.input_ids.shape[1]
    torch.manual_seed(0)
    states = [torch.randn(1, 1, total, SIZE, requires_grad=True) for _ in range(3)]
    counted = Largest()
    with usable(kernel), counted:
        found = run(kernel, batch, states, last=True)
        found_gradients = torch.autograd.grad(found[:, length - 1 :].square().sum(), states)
    assert counted.elements <= 16 * total * SIZE
    with usable(kernel), counted, torch.no_grad():
        whole = run(kernel, batch, states)
    assert counted.elements <= 16 * total * SIZE
    torch.testing.assert_close(whole[:, length - 1 :], found[:, length - 1 :], rtol=1e-4, atol=1e-6)
    oracle = run("plain", batch, states, last=True)
    torch.testing.assert_close(found[:, length - 1 :], oracle[:, length - 1 :], rtol=1e-4, atol=1e-6)
    expected = torch.autograd.grad(oracle[:, length - 1 :].square().sum(), states)
    torch.testing.assert_close(found_gradients, expected, rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    "sees, name, last, calls",
    [
        ("causal", "one", False, ["forward 3", "forward 1", "backward 3", "backward 1"]),
        ("causal", "one", True, ["forward 1", "forward 2", "backward 1", "backward 2"]),
        ("two-way", "ragged", False, ["forward 4", "forward 5", "backward 4", "backward 5"]),
        ("causal", "no response", False, ["forward 1", "backward 1"]),
        # groups in one row: everything sees itself, three runs of responses see their prompts
        ("causal", "ragged", False, ["forward 9", "forward 3", "backward 9", "backward 3"]),
        ("blocks", "ragged", False, ["forward 3", "forward 5", "backward 3", "backward 5"]),
    ],
)
def test_the_cuda_kernel_makes_two_calls_each_way_however_many_groups(
    sees: str, name: str, last: bool, calls: list[str]
) -> None:
    batch = prefix.lay_out(groups_of(name, BLOCKS[sees]), 100)
    states = states_of(batch)
    with flash_on_cpu(exact=True) as flash:
        run("cuda", batch, states, last=last).sum().backward()
    assert flash.calls == calls


def test_one_group_is_not_copied_for_the_cuda_kernel() -> None:
    spans = spans_of(prefix.lay_out(groups_of("eight", BLOCKS["causal"])), last_layer=3)
    plan = VarlenKernel().prepare(spans, CPU)
    places = [where for call in (*plan.ordinary, *plan.last) for where in (call.queries, call.keys)]
    assert all(isinstance(where, slice) for where in places)


def test_padding_between_groups_of_unequal_rows_costs_no_square_of_its_length() -> None:
    groups = [write_group([1] * 600, [2] * 3), write_group([1] * 4, [2] * 3)]
    plan = VarlenKernel().prepare(spans_of(prefix.lay_out(groups, 1)), CPU)
    ends = plan.ordinary[0].query_ends.tolist()
    assert sorted(b - a for a, b in itertools.pairwise(ends)) == [2, 2, 4, 84, *[128] * 4, 600]


def test_the_emulated_operators_refuse_what_cuda_refuses() -> None:
    batch = prefix.lay_out(groups_of("one", BLOCKS["causal"]))
    with flash_on_cpu():
        with pytest.raises(RuntimeError, match="fp16 and bf16"):
            run("cuda", batch, states_of(batch))
        with pytest.raises(RuntimeError, match="multiple of 8"):
            run("cuda", batch, [one.bfloat16() for one in states_of(batch, size=12)])
