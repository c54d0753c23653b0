"""An adapter merged into its base, W' = W + s·B·A (or DoRA's), also where the base was trained on in 4 or 8 bits.

Each layer is merged in float32 and rounded once. A quantised base is replaced by what its few bits stand for: the
adapter was trained against those weights, not against the ones they were rounded from.
"""

from dataclasses import replace
from typing import Any

import torch
from peft import PeftModel
from peft.tuners.lora import LoraLayer
from torch import Tensor, nn
from transformers import PreTrainedModel

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.load import load_model


def load_base(config: ModelConfig, device: str) -> PreTrainedModel:
    """The base as a plain model; a quantised one with the weights that its bits stand for."""
    model = load_model(replace(config, quantize="none"), device)
    if config.quantize != "none":
        quantised = load_model(config, device)
        layers = dict(model.named_modules())
        for name, module in quantised.named_modules():
            stored = unpacked(module)
            if stored is not None:
                weight = layers[name].weight
                assert isinstance(weight, nn.Parameter)
                weight.data = stored.to(weight.dtype)
    return model


def unpacked(module: nn.Module) -> Tensor | None:
    """The weight that a quantised layer stands for, [outputs, inputs]; None for any other module."""
    weight: Any = getattr(module, "weight", None)
    kind = type(module).__name__
    if kind not in ("Linear4bit", "Linear8bitLt"):
        return None

    from bitsandbytes.functional import dequantize_4bit, int8_vectorwise_dequant

    if kind == "Linear4bit":
        return dequantize_4bit(weight.data, weight.quant_state)
    return int8_vectorwise_dequant(weight.data, weight.SCB)


@torch.no_grad()
def merged(policy: PeftModel, dtype: torch.dtype) -> PreTrainedModel:
    """The base with its adapter merged in, every weight in `dtype`; the policy is used up.

    Raises ValueError where a merged weight is not finite, ModelError for a bias that its layer has no place for.
    """
    for name, module in policy.named_modules():
        if isinstance(module, LoraLayer):
            base: Any = module.get_base_layer()
            if any(module.lora_bias.values()) and base.bias is None:
                raise ModelError(
                    f"The adapter has a bias (`lora_bias: true`) on {name!r}, which has none in this architecture: no "
                    "merged model could hold it. Load base and adapter with peft, which `generate` and `evaluate` do."
                )
            # stacked weights of experts have names of their own
            weight = getattr(base, getattr(module, "parameter_name", "weight"))
            weight.data = weight.data.float()
            module.merge(safe_merge=True)
            weight.data = weight.data.to(dtype)
    plain: Any = policy.merge_and_unload()
    return plain.to(dtype)
