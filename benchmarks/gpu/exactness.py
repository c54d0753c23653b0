"""How exact each attention kernel is on this device, and how long one layer of Qwen2.5-VL-7B takes in it.

`python -m benchmarks.gpu.exactness`: forward, and forward with backward, against dense attention in float32.
"""

import json
import time
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sightline.attention import attention
from sightline.attention.choice import choose
from sightline.attention.spans import spans_of
from sightline.layout import prefix, visible
from sightline.types import Batch, Group

HEADS, KEY_HEADS, SIZE = 28, 4, 128


def grid(prompt: int, responses: int, length: int) -> Batch:
    """One group; what is fed of its responses has this length."""
    ones = torch.ones(length + 1)
    group = Group(
        id="group",
        prompt_ids=torch.zeros(prompt, dtype=torch.long),
        responses=(torch.zeros(length + 1, dtype=torch.long),) * responses,
        weights=(ones,) * responses,
        positions=torch.arange(prompt),
        next_position=prompt,
        block=torch.full((prompt,), -1),
    )
    return prefix.lay_out([group])


def measure(device: torch.device, dtype: torch.dtype, batch: Batch, heads: tuple[int, int, int]) -> dict[str, Any]:
    """Relative errors of output and gradients, and seconds, of the dense mask and of the kernel that is chosen."""
    query_heads, key_heads, size = heads
    length = batch.input_ids.shape[1]
    torch.manual_seed(0)
    shapes = ((1, count, length, size) for count in (query_heads, key_heads, key_heads))
    exact = [torch.randn(shape, device=device).to(dtype).float() for shape in shapes]
    mask = visible(batch.to(device))[:, None]
    choice = choose(device, dtype, size)
    ways: dict[str, Tensor] = {"dense": mask}
    if choice.kernel is not None:
        plan = attention.plan_with(choice.kernel, spans_of(batch), device)
        ways[choice.kernel.name] = attention.mask_with(plan, device)
    layer = nn.Module()
    layer.num_key_value_groups = query_heads // key_heads  # pyright: ignore
    truth = _run(layer, [one.requires_grad_() for one in exact], mask)
    found: dict[str, Any] = {"chosen": str(choice)}
    for name, carried in ways.items():
        states = [one.detach().to(dtype).requires_grad_() for one in exact]
        values = _run(layer, states, carried)
        errors = [float((a.float() - b).norm() / b.norm()) for a, b in zip(values, truth, strict=True)]
        found[name] = {
            "error": errors[0],
            "gradient_error": max(errors[1:]),
            "forward_s": _seconds(lambda s=states, m=carried: _forward(layer, s, m), device),
            "both_s": _seconds(lambda s=states, m=carried: _run(layer, s, m), device),
        }
    return found


def _forward(layer: nn.Module, states: list[Tensor], mask: Tensor) -> Tensor:
    query, key, value = states
    return attention.attend(layer, query, key, value, mask)[0]


def _run(layer: nn.Module, states: list[Tensor], mask: Tensor) -> list[Tensor]:
    """The output and the gradients of its squares."""
    output = _forward(layer, states, mask)
    return [output.detach(), *torch.autograd.grad(output.float().square().sum(), states)]


def _seconds(work: Callable[[], Any], device: torch.device, times: int = 5) -> float:
    for repeat in range(times + 2):
        if repeat == 2:  # warm
            _wait(device)
            started = time.perf_counter()
        work()
    _wait(device)
    return (time.perf_counter() - started) / times


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


def main() -> dict[str, Any]:
    """The figures, printed as they come."""
    torch.backends.cuda.matmul.allow_tf32 = False
    has_gpu = torch.cuda.is_available()
    device, toy = torch.device("cuda" if has_gpu else "cpu"), not has_gpu
    found = {}
    for responses, length in ((2, 200), (8, 512)):
        batch = grid(130, responses, 20) if toy else grid(1100, responses, length)
        for dtype in (torch.bfloat16, torch.float32):
            name = f"K={responses} {str(dtype).removeprefix('torch.')}"
            found[name] = measure(device, dtype, batch, (HEADS, KEY_HEADS, SIZE))
            print(name, json.dumps(found[name]), flush=True)
    return found


if __name__ == "__main__":
    main()
