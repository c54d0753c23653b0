"""A model of parts in two precisions: frozen ones as they are stored, trained ones in float32.

Each part gets its inputs in its own precision, where it begins. Under autocast the products have one precision anyway,
but norms and convolutions do not, and a forward outside of it (evaluation, `bf16: false`) has none to help.
"""

from typing import Any

import torch
from torch import Tensor, nn


def cast_where_precision_changes(model: nn.Module) -> None:
    """Let every part whose weights have one dtype, inside a model that has several, cast its inputs to that dtype.

    A model of a single dtype is left alone. Parts are the largest modules of one dtype.
    """
    if len(_dtypes(model)) > 1:
        _visit(model)


def _visit(module: nn.Module) -> None:
    for child in module.children():
        dtypes = _dtypes(child)
        if len(dtypes) == 1 and not isinstance(child, (nn.ModuleList, nn.ModuleDict, nn.Embedding)):
            child.register_forward_pre_hook(_Cast(next(iter(dtypes))), with_kwargs=True)
        elif dtypes:
            _visit(child)


def _dtypes(module: nn.Module) -> set[torch.dtype]:
    return {weight.dtype for weight in module.parameters() if weight.is_floating_point()}


class _Cast:
    """A hook before a module's forward: floating-point tensors among its arguments become of `dtype`."""

    def __init__(self, dtype: torch.dtype) -> None:
        self.dtype = dtype

    def __call__(
        self, module: nn.Module, arguments: tuple[Any, ...], options: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        return tuple(map(self._cast, arguments)), {name: self._cast(value) for name, value in options.items()}

    def _cast(self, value: Any) -> Any:
        return value.to(self.dtype) if isinstance(value, Tensor) and value.is_floating_point() else value
