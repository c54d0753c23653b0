"""Frozen linear layers in 4 or 8 bits, through bitsandbytes: NF4 (arXiv:2305.14314) and int8 (arXiv:2208.07339).

The language model's layers alone are quantised unless the recipe says more: tower and projector are small and their
outputs reach every token; the output head is read by the log-prob head as a plain matrix.
"""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig, PretrainedConfig
from transformers.initialization import no_init_weights
from transformers.utils import is_bitsandbytes_available

from sightline.config import ModelConfig
from sightline.errors import ModelError
from sightline.models.families.family import Family
from sightline.models.families.find import family_of


def quantization(config: ModelConfig, architecture: PretrainedConfig) -> BitsAndBytesConfig:
    """What `from_pretrained` takes. Raises ModelError where bitsandbytes is missing."""
    if not is_bitsandbytes_available():
        raise ModelError(
            f"`model.quantize: {config.quantize}` needs bitsandbytes, which is not installed (or too old). Install it "
            "with `pip install 'sightline[quant]'`."
        )
    # int8 rounds inputs from float16, also on a bfloat16 model, and says so at every layer
    logging.getLogger("bitsandbytes").setLevel(logging.ERROR)
    skipped = kept_whole(config, architecture)
    if config.quantize == "int8":
        return BitsAndBytesConfig(load_in_8bit=True, llm_int8_skip_modules=skipped)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=config.double_quantize,
        bnb_4bit_compute_dtype=torch.bfloat16,
        llm_int8_skip_modules=skipped,
    )


def keep_eval_mode(model: nn.Module) -> None:
    """Keep bitsandbytes' layers on a CPU computing the same, differentiable thing in training and in evaluation.

    Otherwise the first evaluation packs NF4 weights for a kernel without backward, so that later gradients are wrong
    without an error; and int8 layers round their inputs in evaluation but not in training, so that policy and
    reference would differ.
    """
    from bitsandbytes.nn import Linear4bit, Linear8bitLt

    for module in model.modules():
        if isinstance(module, Linear4bit):
            module.support_avx512bf16_for_cpu = False
        elif isinstance(module, Linear8bitLt) and module.weight.device.type == "cpu":
            module.train()
            module.train = _keep_eval_mode(module)


def _keep_eval_mode(module: nn.Module) -> Callable[[bool], nn.Module]:
    return lambda mode=True: module


def kept_whole(config: ModelConfig, architecture: PretrainedConfig) -> list[str]:
    """Names of all linear layers that are not quantised, from the model on the meta device."""
    with torch.device("meta"), no_init_weights():
        model = AutoModelForImageTextToText.from_config(architecture, trust_remote_code=config.trust_remote_code)
    family = family_of(model)
    layers = [name for name, module in model.named_modules() if isinstance(module, nn.Linear)]
    return [name for name in layers if not is_quantised(family, name, config)]


def is_quantised(family: Family, layer: str, config: ModelConfig) -> bool:
    """Whether a linear layer of this name is stored in fewer bits."""
    return config.quantize != "none" and family.part_of(f"{layer}.weight") in config.quantize_parts


def number_of(weight: torch.Tensor) -> int:
    """Entries of a weight; NF4 packs two of them into a byte."""
    state: Any = getattr(weight, "quant_state", None)
    return weight.numel() if state is None else int(torch.Size(state.shape).numel())
