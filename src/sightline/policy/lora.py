"""Low-rank adapters (arXiv:2106.09685) through peft, on the language model's linear layers unless told otherwise."""

import re
from typing import Any

from peft import LoraConfig as PeftLoraConfig
from peft import PeftModel, get_peft_model
from torch import nn
from transformers import PreTrainedModel

from sightline.config import LoraConfig
from sightline.errors import ModelError
from sightline.policy.families import family_of
from sightline.policy.family import Family
from sightline.policy.load import trainable_summary
from sightline.policy.lora_linear import fuse

__all__ = ["add_lora", "language_targets", "trainable_summary"]


def add_lora(model: PreTrainedModel, config: LoraConfig) -> PeftModel:
    """Freeze the model and add adapters to it; adapter weights are float32. The result is an ordinary peft model.

    `config.adapter` names a folder with an adapter to train further; its own rank and targets then hold.
    Raises ModelError where the targets name no layer, or the output embedding.
    """
    family = family_of(model)
    if config.adapter is not None:
        adapted = PeftModel.from_pretrained(model, config.adapter, is_trainable=True)
    else:
        targets = language_targets(family) if config.target_modules == "language" else config.target_modules
        # peft takes any number, whatever its annotation says
        alpha: Any = 2 * config.r if config.alpha is None else config.alpha
        peft_config = PeftLoraConfig(
            r=config.r,
            lora_alpha=alpha,
            lora_dropout=config.dropout,
            target_modules=targets,
            task_type="CAUSAL_LM",
        )
        try:
            adapted = get_peft_model(model, peft_config)
        except ValueError as error:
            raise ModelError(
                f"`lora.target_modules` fits no layer of this {family.name} model: {error} "
                "Use `language`, `all-linear`, or names such as `q_proj`."
            ) from error
    if type(model.get_output_embeddings()) is not nn.Linear:
        raise ModelError(
            "`lora.target_modules` adapts the output embedding (`lm_head`), whose weight log-probs are computed from. "
            "Leave it out; `language` adapts all linear layers below it."
        )
    fuse(adapted)
    return adapted


def language_targets(family: Family) -> str:
    """A regular expression, as peft matches it, of all linear layers of the language model and nothing else."""
    prefix = family.language_name + "."
    layers = [
        name
        for name, module in family.model.named_modules()
        if name.startswith(prefix) and isinstance(module, nn.Linear) and not name.startswith(family.head_name)
    ]
    kinds = sorted({name.rsplit(".", 1)[1] for name in layers})
    return rf"{re.escape(prefix)}(.*\.)?({'|'.join(map(re.escape, kinds))})"
