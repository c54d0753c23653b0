"""A recipe's policy without weights: the model on the meta device, adapted or unfrozen as training would do it."""

from collections import Counter
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from sightline.config import LoraConfig, Recipe
from sightline.policy.families import family_of
from sightline.policy.load import unfreeze
from sightline.policy.lora import add_lora
from sightline.policy.recompute import recompute
from sightline.policy.unwrap import unwrap

PARTS = ("language model", "head", "vision tower", "projector", "adapter")
NAMES = {"language": "language model", "head": "head", "vision": "vision tower", "projector": "projector"}


@dataclass(frozen=True, kw_only=True)
class Weights:
    """Parameters of one part in one precision.

    trained: they have a gradient. quantisable: weights of linear layers of the language model, which `quantize`
    stores in fewer bits.
    """

    part: str
    dtype: torch.dtype
    trained: bool
    quantisable: bool
    number: int

    @property
    def bytes(self) -> int:
        return self.number * self.dtype.itemsize


def build_skeleton(config: PretrainedConfig, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """The recipe's policy on the meta device: no memory, a second of time, also for 72 billion parameters.

    Its attention, precision, adapters and what is trained are the recipe's. It is in training mode.
    """
    attention = None if recipe.model.attn_implementation == "auto" else recipe.model.attn_implementation
    with torch.device("meta"), no_init_weights():
        model = AutoModelForImageTextToText.from_config(
            config, dtype=frozen_dtype(recipe), attn_implementation=attention
        )
        model.tie_weights()
        model.requires_grad_(False)
        # what an adapter starts from costs nothing and may need weights that are not here
        policy = add_lora(model, _plain(recipe)) if recipe.lora is not None else unfreeze(model, recipe.model)
    recompute(policy, recipe.gradient_checkpointing)
    return policy.train()


def frozen_dtype(recipe: Recipe) -> torch.dtype:
    """Precision of frozen weights: the recipe's; `auto` is that of a GPU with bfloat16, unless the CPU is asked for."""
    if recipe.model.dtype != "auto":
        return getattr(torch, recipe.model.dtype)
    return torch.float32 if recipe.use_cpu and recipe.model.quantize == "none" else torch.bfloat16


def weights_of(model: nn.Module, *, quantised: bool = False) -> list[Weights]:
    """The model's parameters, counted by part, precision and whether they are trained; tied ones once.

    quantised: tell apart what `quantize` stores in fewer bits.
    """
    family = family_of(model)
    linear = {
        f"{name}.weight"
        for name, module in family.model.named_modules()
        if isinstance(module, nn.Linear) and name.startswith(family.language_name + ".")
    }
    numbers: Counter[tuple[str, torch.dtype, bool, bool]] = Counter()
    for name, weight in family.model.named_parameters():
        part = "adapter" if ".lora_" in name else NAMES[family.part_of(name)]
        quantisable = quantised and name in linear and not weight.requires_grad
        numbers[part, weight.dtype, weight.requires_grad, quantisable] += weight.numel()
    found = [
        Weights(part=part, dtype=dtype, trained=trained, quantisable=quantisable, number=number)
        for (part, dtype, trained, quantisable), number in numbers.items()
    ]
    return sorted(found, key=lambda weights: PARTS.index(weights.part))


class LayerSize(NamedTuple):
    """Bytes of the largest layer of the language model: all of its weights, and its largest matrix."""

    layer: int
    linear: int


def largest_layer(model: nn.Module) -> LayerSize:
    """What is gathered or unpacked at a time, in bfloat16."""
    layers = decoder_layers(model)
    layer = max(sum(p.numel() for p in one.parameters()) for one in layers)
    return LayerSize(layer=2 * layer, linear=2 * max(p.numel() for one in layers for p in one.parameters()))


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of the language model."""
    layers = unwrap(model).get_decoder().layers
    assert isinstance(layers, nn.ModuleList)
    return layers


def _plain(recipe: Recipe) -> LoraConfig:
    assert recipe.lora is not None
    return replace(recipe.lora, init="default")
