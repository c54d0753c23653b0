"""Low-rank adapters (arXiv:2106.09685) through peft, on the language model's linear layers unless told otherwise."""

import re
from typing import Any

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from peft.tuners.lora.layer import ParamWrapper
from torch import nn
from transformers import PreTrainedModel

from sightline.config import LoraConfig
from sightline.config.model import EXPERTS
from sightline.errors import ModelError
from sightline.models.adapter import changes_base, read_adapter_config, require_adapter, with_adapter
from sightline.models.families.family import Family
from sightline.models.families.find import family_of
from sightline.models.load import trainable_summary
from sightline.models.lora_linear import fuse
from sightline.models.trial import try_patterns

__all__ = ["add_lora", "part_targets", "trainable_summary"]

PARTS = ("language", "projector", "vision")
NAMES = f"`{'`, `'.join(PARTS)}`, `experts`, `all-linear`, or names such as `q_proj`"
INITS: dict[str, Any] = {"default": True, "gaussian": "gaussian", "pissa": "pissa"}


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Freeze the model and add adapters to it; adapter weights are float32. The result is an ordinary peft model.

    `config.adapter` names an adapter to train further, a folder or hub id; its own rank and targets then hold.
    Raises ModelError where there is no such adapter or it fits no quantised base, or the targets name no layer, or the
    output embedding.
    """
    family = family_of(model)
    if config.adapter is not None:
        folder = require_adapter(config.adapter)
        if getattr(model, "is_quantized", False) and changes_base(read_adapter_config(folder)):
            raise ModelError(
                f"The adapter {config.adapter!r} (`lora.adapter`) took its start out of the base's weights (PiSSA), "
                "which `model.quantize` leaves too coarse for it. Do not quantise, or `sightline export` that run "
                "and train on with its model."
            )
        adapted = with_adapter(model, folder, is_trainable=True)
    else:
        # peft takes any number, whatever its annotation says
        alpha: Any = 2 * config.r if config.alpha is None else config.alpha
        peft_config = PeftLoraConfig(
            r=config.r,
            lora_alpha=alpha,
            lora_dropout=config.dropout,
            target_modules=targets_of(family, config.target_modules),
            target_parameters=expert_targets(family) if config.adapts_experts else None,
            use_rslora=config.use_rslora,
            use_dora=config.use_dora,
            init_lora_weights=INITS[config.init],
            task_type="CAUSAL_LM",
        )
        try:
            adapted = get_peft_model(model, peft_config)
        except ValueError as error:
            raise ModelError(
                f"`lora.target_modules` fits no layer of this {family.name} model: {error} Use {NAMES}."
            ) from error
    if type(model.get_output_embeddings()) is not nn.Linear:
        if config.adapter is not None:
            raise ModelError(
                f"The adapter {config.adapter!r} (`lora.adapter`) adapts the output embedding (`lm_head`, named in "
                "target_modules or modules_to_save of its adapter_config.json), whose weight log-probs are computed "
                "from. Merge it into its base with peft (`merge_and_unload`) and train that model."
            )
        raise ModelError(
            "`lora.target_modules` adapts the output embedding (`lm_head`), whose weight log-probs are computed from. "
            "Leave it out; `language` adapts all linear layers below it."
        )
    fuse(adapted)
    return adapted


def targets_of(family: Family, targets: str | list[str]) -> str | list[str]:
    """What peft is to adapt of layers: names of parts become a regular expression of theirs, all else stays; experts
    are no layers."""
    named = [one for one in ([targets] if isinstance(targets, str) else targets) if one != EXPERTS]
    if not named:
        return []
    parts = [one for one in named if one in PARTS]
    if not parts:
        if isinstance(targets, str) and targets != "all-linear":
            try_patterns([targets], [name for name, _ in family.model.named_modules()], "lora.target_modules")
        return targets if isinstance(targets, str) else named
    if len(parts) < len(named):
        raise ModelError(
            f"`lora.target_modules: {named}` mixes parts of the model ({', '.join(parts)}) with names of layers. Give "
            "parts alone, or names alone."
        )
    return part_targets(family, parts)


def part_targets(family: Family, parts: list[str]) -> str:
    """A regular expression, as peft matches it, of all linear layers of these parts and nothing else."""
    layers = [
        name
        for name, module in family.model.named_modules()
        if isinstance(module, nn.Linear)
        # a model's own kind of linear layer, such as a router, returns what no adapter can add to
        and not type(module).__module__.startswith("transformers.models.")
        and family.part_of(f"{name}.weight") in parts
    ]
    if not layers:
        raise ModelError(
            f"`lora.target_modules: {', '.join(parts)}` fits no layer: this {family.name} model has none "
            "that is linear there."
        )
    # layers that differ in their number alone are one pattern
    patterns = dict.fromkeys(re.sub(r"(?<=\\\.)\d+(?=\\\.)", lambda _: r"\d+", re.escape(name)) for name in layers)
    return f"({'|'.join(patterns)})"


def expert_targets(family: Family) -> list[str]:
    """Names of a mixture's stacked weights as peft's `target_parameters` takes them: `mlp.experts.gate_up_proj`.

    Raises ModelError where the language model has none.
    """
    found = expert_weights(family)
    if not found:
        raise ModelError(
            f"`lora.target_modules: experts` fits nothing: this {family.name} model has no experts whose weights are "
            "stacked. Leave `experts` out."
        )
    # those that differ in their layer's number alone are one name
    return list(dict.fromkeys(re.split(r"\.\d+\.", name)[-1] for name in found))


def expert_weights(family: Family) -> list[str]:
    """The stacked weights [experts, …, …] of the language model, by name."""
    return [
        name
        for name, weight in family.model.named_parameters()
        if weight.ndim == 3 and ".experts." in name and family.part_of(name) == "language"
    ]


def experts_left_alone(model: PeftModel) -> int:
    """Weights of a mixture's experts that no adapter is on."""
    family = family_of(model)
    if any(isinstance(module, ParamWrapper) for module in family.model.modules()):
        return 0
    return sum(family.model.get_parameter(name).numel() for name in expert_weights(family))
