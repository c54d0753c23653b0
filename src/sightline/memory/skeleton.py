"""A recipe's policy without weights: the model on the meta device, adapted or unfrozen as training would do it.

Layers of a language model repeat, so only the first few are adapted and run; each says how many it stands for.
"""

import re
from collections import Counter
from collections.abc import Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
from peft import PeftModel
from torch import nn
from transformers import AutoModelForImageTextToText, PretrainedConfig, PreTrainedModel
from transformers.initialization import no_init_weights

from sightline.config import LoraConfig, Recipe
from sightline.models.families.find import family_of
from sightline.models.load import unfreeze
from sightline.models.lora import add_lora
from sightline.models.recompute import recompute
from sightline.models.unwrap import unwrap

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


@dataclass(frozen=True, kw_only=True)
class Skeleton:
    """A policy on the meta device, in training mode.

    stands_for: for each layer that its language model has, how many layers of the real one it is. few, more: two
    numbers of layers; what one layer costs is told from the difference. matrix: weights of the largest one in a layer.
    """

    policy: PreTrainedModel | PeftModel
    stands_for: tuple[int, ...]
    few: int
    more: int
    matrix: int

    @property
    def num_layers(self) -> int:
        """Layers of the real language model."""
        return sum(self.stands_for)


class Bare(NamedTuple):
    """A model on the meta device that nothing is trained of; its language model's layers lie beside it.

    period: after so many layers their kinds begin again.
    """

    model: PreTrainedModel
    layers: list[nn.Module]
    period: int
    matrix: int


def build_skeleton(config: PretrainedConfig, recipe: Recipe, *, whole: bool = False) -> Skeleton:
    """The recipe's policy on the meta device: no memory, a second of time, also for 72 billion parameters.

    Its attention, precision, adapters and what is trained are the recipe's. whole: with all of its layers.
    """
    return adapt(build_bare(config, recipe), recipe, whole=whole)


def build_bare(config: PretrainedConfig, recipe: Recipe) -> Bare:
    """The model before anything is trained, in the recipe's precision and with its attention."""
    attention = None if recipe.model.attn_implementation == "auto" else recipe.model.attn_implementation
    with torch.device("meta"), no_init_weights():
        model = AutoModelForImageTextToText.from_config(
            config, dtype=frozen_dtype(recipe), attn_implementation=attention
        )
    model.tie_weights()
    model.requires_grad_(False)
    layers, period, matrix = list(decoder_layers(model)), repetition(model), largest_matrix(model)
    model.get_decoder().layers = nn.ModuleList()
    return Bare(model, layers, period, matrix)


def adapt(bare: Bare, recipe: Recipe, *, whole: bool = False) -> Skeleton:
    """A copy of the model, adapted or unfrozen as the recipe has it."""
    number = len(bare.layers)
    period = number if names_single_layers(recipe.lora) else bare.period
    few = min(number, -(-differing(bare.model.config) // period) * period)
    more = min(number, few + period)
    # an adapter that exists has weights for every layer
    has_weights = recipe.lora is not None and recipe.lora.adapter is not None
    kept = number if whole or has_weights else more
    model = deepcopy(bare.model)
    model.get_decoder().layers = nn.ModuleList(deepcopy(layer) for layer in bare.layers[:kept])
    with torch.device("meta"), no_init_weights():
        # what an adapter starts from costs nothing and may need weights that are not here
        policy = add_lora(model, _plain(recipe)) if recipe.lora is not None else unfreeze(model, recipe.model)
    recompute(policy, recipe.gradient_checkpointing)
    stands_for = Counter(i if i < kept else few + (i - few) % period for i in range(number))
    return Skeleton(
        policy=policy.train(),
        stands_for=tuple(stands_for[i] for i in range(kept)),
        few=few,
        more=more,
        matrix=bare.matrix,
    )


def differing(config: PretrainedConfig) -> int:
    """So many layers of a language model, and one more, come before all others are alike in what they compute."""
    tower = getattr(config, "vision_config", None)
    return max(2, 1 + len(getattr(tower, "deepstack_visual_indexes", ())))


def repetition(model: nn.Module) -> int:
    """After how many layers the language model's kinds of layer, and the shapes of their weights, begin again."""
    kinds = getattr(family_of(model).text_config, "layer_types", None)
    seen = [
        (type(layer), kinds[i] if kinds else None, [(name, p.shape) for name, p in layer.named_parameters()])
        for i, layer in enumerate(decoder_layers(model))
    ]
    return next(n for n in range(1, len(seen) + 1) if all(seen[i] == seen[i % n] for i in range(len(seen))))


def names_single_layers(lora: LoraConfig | None) -> bool:
    """Whether an adapter may be in some layers and not in others."""
    if lora is None:
        return False
    targets = [lora.target_modules] if isinstance(lora.target_modules, str) else lora.target_modules
    return not all(re.fullmatch(r"[a-z-]+(_[a-z]+)*", target) for target in targets)


def frozen_dtype(recipe: Recipe) -> torch.dtype:
    """Precision of frozen weights: the recipe's; `auto` is that of a GPU with bfloat16, unless the CPU is asked for."""
    if recipe.model.dtype != "auto":
        return getattr(torch, recipe.model.dtype)
    return torch.float32 if recipe.use_cpu and recipe.model.quantize == "none" else torch.bfloat16


def weights_of(skeleton: Skeleton, *, parts: Sequence[str] = ()) -> list[Weights]:
    """The policy's parameters, counted by part, precision and whether they are trained; tied ones once.

    parts: whose linear layers are told apart, because `quantize` stores them in fewer bits.
    """
    family = family_of(skeleton.policy)
    layers = zip(decoder_layers(skeleton.policy), skeleton.stands_for, strict=True)
    times = {id(weight): number for layer, number in layers for weight in layer.parameters()}
    linear = {
        f"{name}.weight"
        for name, module in family.model.named_modules()
        if isinstance(module, nn.Linear) and family.part_of(f"{name}.weight") in parts
    }
    numbers: Counter[tuple[str, torch.dtype, bool, bool]] = Counter()
    for name, weight in family.model.named_parameters():
        part = "adapter" if ".lora_" in name else NAMES[family.part_of(name)]
        quantisable = name in linear and not weight.requires_grad
        numbers[part, weight.dtype, weight.requires_grad, quantisable] += weight.numel() * times.get(id(weight), 1)
    found = [
        Weights(part=part, dtype=dtype, trained=trained, quantisable=quantisable, number=number)
        for (part, dtype, trained, quantisable), number in numbers.items()
    ]
    return sorted(found, key=lambda weights: PARTS.index(weights.part))


def largest_matrix(model: nn.Module) -> int:
    """Weights of the largest matrix in a layer of the language model."""
    return max(weight.numel() for weight in decoder_layers(model).parameters())


def decoder_layers(model: nn.Module) -> nn.ModuleList:
    """The layers of the language model."""
    layers = unwrap(model).get_decoder().layers
    assert isinstance(layers, nn.ModuleList)
    return layers


def _plain(recipe: Recipe) -> LoraConfig:
    assert recipe.lora is not None
    return replace(recipe.lora, init="default")
