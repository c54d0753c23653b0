"""Activations computed again in backward instead of kept: in every layer whole (arXiv:1604.06174), or in part.

Selective (arXiv:2205.05198 has the idea): each layer keeps what its attention and every other matrix product gave,
which is slow to compute for its size, and computes the rest again. Both leave values and gradients as they are.
"""

from collections import Counter
from functools import partial
from typing import Any, Literal

import torch
from peft import PeftModel
from peft.tuners.lora.layer import Linear as PeftLinear
from torch import Tensor
from torch.utils.checkpoint import CheckpointPolicy, create_selective_checkpoint_contexts
from transformers import PreTrainedModel

from sightline.models.lora_linear import FusedLinear

aten = torch.ops.aten
ATTENTION = {
    aten._scaled_dot_product_flash_attention_for_cpu.default,
    aten._scaled_dot_product_flash_attention.default,
    aten._scaled_dot_product_efficient_attention.default,
    aten._scaled_dot_product_cudnn_attention.default,
}
PRODUCTS = {aten.mm.default, aten.addmm.default}
SMALLEST_RATIO = 8
"""Of a weight's longer edge to its shorter one; adapters are longer."""


def recompute(model: PreTrainedModel | PeftModel, how: bool | Literal["selective"]) -> None:
    """Make every layer do so, in place; False leaves the model as it is."""
    if not how:
        return
    options: dict[str, Any] = {"use_reentrant": False}
    if how == "selective":
        options["context_fn"] = _contexts
        for module in model.modules():
            if isinstance(module, FusedLinear):
                # it adds to the product in place, which a product that is kept does not allow
                module.__class__ = PeftLinear
    model.gradient_checkpointing_enable(options)


def _contexts() -> Any:
    """A forward and its repetition count their products anew, so that they keep and find the same ones."""
    counted = {False: Counter(), True: Counter()}
    return create_selective_checkpoint_contexts(partial(_policy, counted))


def _policy(counted: dict[bool, Counter], ctx: Any, operation: Any, *args: Any, **kwargs: Any) -> CheckpointPolicy:
    if operation in ATTENTION:
        return CheckpointPolicy.MUST_SAVE
    if operation in PRODUCTS and _is_large(args[-1]):
        counts = counted[ctx.is_recompute]
        counts["products"] += 1
        if counts["products"] % 2:
            return CheckpointPolicy.MUST_SAVE
    return CheckpointPolicy.PREFER_RECOMPUTE


def _is_large(matrix: Tensor) -> bool:
    """Whether a factor is a layer's weight, not a low-rank adapter's, whose product costs next to nothing."""
    return SMALLEST_RATIO * min(matrix.shape) > max(matrix.shape)
