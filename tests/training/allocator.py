"""A made-up allocator: the language model runs out of memory, by torch's own error, above so many tokens."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor


@dataclass
class Allocator:
    """room: tokens that a layer may be given at once. served: tokens of every forward of the first layer that went
    well, with gradient. ran_out: how often it did not."""

    room: float
    in_backward: bool = False
    served: list[int] = field(default_factory=list)
    ran_out: int = 0

    def take(self, tokens: int) -> None:
        if tokens > self.room:
            self.ran_out += 1
            raise torch.cuda.OutOfMemoryError(f"CUDA out of memory. Tried to allocate room for {tokens} tokens.")


@contextmanager
def room_for(tokens: float, *, in_backward: bool = False) -> Iterator[Allocator]:
    """Within, every layer of a language model asks the allocator, in its forward or in its backward."""
    allocator = Allocator(tokens, in_backward)

    def entered(module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        hidden: Tensor = output[0] if isinstance(output, tuple) else output
        # the planner's tensors take no memory
        if not type(module).__name__.endswith("DecoderLayer") or isinstance(hidden, FakeTensor):
            return
        size = hidden.shape[0] * hidden.shape[1]
        if not in_backward:
            allocator.take(size)
        if hidden.requires_grad:
            if module.self_attn.layer_idx == 0:
                allocator.served.append(size)
            if in_backward:
                hidden.register_hook(lambda _: allocator.take(size))

    hook = nn.modules.module.register_module_forward_hook(entered)
    try:
        yield allocator
    finally:
        hook.remove()
