"""A linear layer with a low-rank adapter as one differentiable function: y = W x + b + s · B (A x).

peft computes the sum in three passes over y and autograd goes the same way back; here the product with B is added while
it is formed, and so is the one with A in backward. Numbers are peft's to rounding, what is kept for backward is the
same. It serves the plain case (one adapter, no dropout in force, frozen W, one precision or autocast's); every other is
peft's own forward. Under autocast all factors are cast as it would cast them, once: peft makes a float32 copy of x
for every layer first.
"""

from typing import Any

import torch
from jaxtyping import Float
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


class FusedLinear(PeftLinear):
    """peft's adapted linear layer with another `forward`; names and weights are peft's."""

    def forward(self, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
        """[..., in] -> [..., out]."""
        adapter = self.active_adapters[0] if len(self.active_adapters) == 1 else None
        if adapter is None or args or kwargs or not self._is_plain(x, adapter):
            return super().forward(x, *args, **kwargs)
        base, inner, outer = self.base_layer, self.lora_A[adapter], self.lora_B[adapter]
        factors = (x, base.weight, base.bias, inner.weight, outer.weight)
        if torch.is_autocast_enabled(x.device.type):
            dtype = torch.get_autocast_dtype(x.device.type)
            factors = tuple(None if one is None else one.to(dtype) for one in factors)
        return _LowRankSum.apply(*factors, self.scaling[adapter])

    def _is_plain(self, x: Tensor, adapter: str) -> bool:
        if self.disable_adapters or self.merged or adapter not in self.lora_A or adapter in self.lora_variant:
            return False
        inner, outer, base = self.lora_A[adapter], self.lora_B[adapter], self.base_layer
        drops = self.training and not isinstance(self.lora_dropout[adapter], nn.Identity)
        trains_base = base.weight.requires_grad or (base.bias is not None and base.bias.requires_grad)
        dtypes = {x.dtype, base.weight.dtype, inner.weight.dtype, outer.weight.dtype}
        # autocast leaves float64 as it is
        mixed = torch.is_autocast_enabled(x.device.type) and torch.float64 not in dtypes
        return (mixed or len(dtypes) == 1) and outer.bias is None and not (drops or trains_base)


def fuse(model: PeftModel) -> None:
    """Give the plain adapted linear layers of a model the fused forward, in place."""
    for module in model.modules():
        if type(module) is PeftLinear and type(module.base_layer) is nn.Linear:
            module.__class__ = FusedLinear


class _LowRankSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Float[Tensor, "*grid inputs"],
        weight: Float[Tensor, "outputs inputs"],
        bias: Float[Tensor, " outputs"] | None,
        inner: Float[Tensor, "rank inputs"],
        outer: Float[Tensor, "outputs rank"],
        scaling: float,
    ) -> Float[Tensor, "*grid outputs"]:
        rows = x.flatten(0, -2)
        low = rows @ inner.T
        # no view is returned: some models add to what a layer gave, in place
        result = nn.functional.linear(x, weight, bias)
        result.view(-1, result.shape[-1]).addmm_(low, outer.T, alpha=scaling)
        ctx.save_for_backward(rows, low, weight, inner, outer)
        ctx.scaling, ctx.shape = scaling, x.shape
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        rows, low, weight, inner, outer = ctx.saved_tensors
        needs_x, _, _, needs_inner, needs_outer, _ = ctx.needs_input_grad
        grad = grad.flatten(0, -2)
        grad_low = (grad @ outer).mul_(ctx.scaling)
        grad_x = (grad @ weight).addmm_(grad_low, inner).view(ctx.shape) if needs_x else None
        grad_inner = grad_low.T @ rows if needs_inner else None
        grad_outer = (grad.T @ low).mul_(ctx.scaling) if needs_outer else None
        return grad_x, None, None, grad_inner, grad_outer, None
