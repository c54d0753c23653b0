"""Tensors without data that are accounted for: run a forward and a backward, learn what it would hold in memory.

Weights and what is computed from them are torch's fake tensors: shape, precision and device, no data. Integers (token
ids, positions, grids of images) are real, because models branch on them. Every
operation passes through a `Ledger`, which knows when each storage begins and ends to live.
"""

import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor, FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_map_only

CPU = torch.device("cpu")
SMALL = 2**20
"""Elements below which numbers stay real: models compute positions through them."""

INDEXING = {torch.ops.aten.index.Tensor, torch.ops.aten.index_put.default, torch.ops.aten.index_put_.default}


@dataclass(kw_only=True)
class Phase:
    """Bytes above the weights: `start` when the phase began, `end` when it ended, `peak` at most in between.

    copies: of weights in a second precision, part of the peak.
    """

    start: int = 0
    end: int = 0
    peak: int = 0
    copies: int = 0


class Ledger(TorchDispatchMode):
    """Counts the bytes of all tensors that live, above those of the model it was made for.

    copies: bytes of weights in a second precision (autocast's), part of what lives while they do.
    """

    def __init__(self, mode: FakeTensorMode, model: nn.Module) -> None:
        super().__init__()
        self.mode = mode
        self.live = self.copies = 0
        self.sizes: dict[int, int] = {}
        self.weights = {t.untyped_storage()._cdata for t in [*model.parameters(), *model.buffers()]}
        self.current = Phase()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.aten.ne.Scalar and isinstance(args[0], FakeTensor):
            # asked of images: how many of your zeros are not all there is? an image of ones is no padding
            return torch.ones(args[0].shape, dtype=torch.bool)
        if func is torch.ops.aten.allclose.default and isinstance(args[0], FakeTensor):
            return True  # asked of logits: are you what the head returned?
        if func in INDEXING and isinstance(args[0], FakeTensor):
            args = (args[0], _places(args[1]), *args[2:])
        if func is torch.ops.aten._grouped_mm.default:
            result = _grouped_mm(*args, **(kwargs or {}))
        else:
            result = func(*args, **(kwargs or {}))
        is_copy = func is torch.ops.aten._to_copy.default and self._is_weight(args[0])
        if isinstance(result, Tensor):
            return self._enter(self._without_data(result), is_copy)
        return tree_map_only(Tensor, lambda tensor: self._enter(self._without_data(tensor), is_copy), result)

    @contextmanager
    def phase(self) -> Iterator[Phase]:
        """Within, what lives is recorded in the phase it gives."""
        self.current = phase = Phase(start=self.live, peak=self.live)
        try:
            yield phase
        finally:
            phase.end = self.live
            self.current = Phase()

    def _without_data(self, tensor: Tensor) -> Tensor:
        if isinstance(tensor, FakeTensor) or not tensor.is_floating_point() or tensor.numel() < SMALL:
            return tensor
        return FakeTensor(self.mode, torch.empty_like(tensor, device="meta"), CPU)

    def _is_weight(self, tensor: Tensor) -> bool:
        return tensor.untyped_storage()._cdata in self.weights

    def _enter(self, tensor: Tensor, is_copy: bool) -> Tensor:
        storage = tensor.untyped_storage()
        key = storage._cdata
        if key not in self.weights and key not in self.sizes:
            self.sizes[key] = storage.nbytes()
            self.live += self.sizes[key]
            self.copies += self.sizes[key] if is_copy else 0
            if self.live > self.current.peak:
                self.current.peak, self.current.copies = self.live, self.copies
            weakref.finalize(storage, self._leave, key, is_copy)
        return tensor

    def _leave(self, key: int, is_copy: bool) -> None:
        size = self.sizes.pop(key)
        self.live -= size
        self.copies -= size if is_copy else 0


def _grouped_mm(*args: Any, **kwargs: Any) -> Tensor:
    """The product of experts. Without data torch knows it in bfloat16 alone; its shape is that of any precision."""
    product, dtype = torch.ops.aten._grouped_mm.default, args[0].dtype
    if dtype == torch.bfloat16 or not any(isinstance(one, FakeTensor) for one in args[:2]):
        return product(*args, **kwargs)
    return product(*(one.bfloat16() for one in args[:2]), *args[2:], **kwargs).to(dtype)


def _places(indices: list[Tensor | None]) -> list[Tensor | None]:
    """Masks as the places where they are true: how many there are must be known."""
    found: list[Tensor | None] = []
    for index in indices:
        found += index.nonzero(as_tuple=True) if index is not None and index.dtype == torch.bool else (index,)
    return found


def without_data(model: nn.Module) -> FakeTensorMode:
    """Replace the weights of a model on the meta device by fake ones on the CPU, in place; tied weights stay tied."""
    mode = FakeTensorMode(allow_non_fake_inputs=True)
    made: dict[int, nn.Parameter] = {}
    for module in model.modules():
        for name, weight in module._parameters.items():
            if weight is not None:
                fake = FakeTensor(mode, weight.data.to("meta"), CPU)
                module._parameters[name] = made.setdefault(
                    id(weight), nn.Parameter(fake, requires_grad=weight.requires_grad)
                )
        for name, buffer in module._buffers.items():
            if buffer is not None and buffer.is_floating_point():
                module._buffers[name] = FakeTensor(mode, buffer.data.to("meta"), CPU)
    return mode
