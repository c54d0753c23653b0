"""Which family a model belongs to."""

from typing import Any

from torch import nn

from sightline.errors import RecipeError
from sightline.models.families.family import Family
from sightline.models.families.gemma import Gemma3Family, PaliGemmaFamily
from sightline.models.families.mllama import MllamaFamily
from sightline.models.families.qwen import DeepstackFamily, HybridFamily, QwenFamily
from sightline.models.families.smolvlm import SmolVLMFamily
from sightline.models.unwrap import unwrap

FAMILIES: dict[str, type[Family]] = {
    "gemma3": Gemma3Family,
    "idefics2": Family,
    "idefics3": Family,
    "internvl": Family,
    "llava": Family,
    "llava_next": Family,
    "mllama": MllamaFamily,
    "paligemma": PaliGemmaFamily,
    "qwen2_5_vl": QwenFamily,
    "qwen2_vl": QwenFamily,
    "qwen3_5": HybridFamily,
    "qwen3_5_moe": HybridFamily,
    "qwen3_vl": DeepstackFamily,
    "qwen3_vl_moe": DeepstackFamily,
    "smolvlm": SmolVLMFamily,
}
"""By the `model_type` of config.json."""


def register_family(model_type: str, family: Any, *, name: str | None = None) -> None:
    """Let models of this type be of this family, in place of Sightline's own. name: for messages.

    Raises `RecipeError` where `family` is not a subclass of `Family`.
    """
    if not isinstance(family, type) or not issubclass(family, Family):
        raise RecipeError(
            f"Family `{name or family!r}` is not a subclass of `sightline.models.families.family.Family`. Derive from "
            "it and override what differs."
        )
    FAMILIES[model_type] = family


def family_of(model: nn.Module) -> Family:
    """The family of a model, wrapped (DDP, peft, compile) or bare.

    A model that is not in the table, or whose language model has layers that know no mask, gets the padded layout, and
    its answers are left to transformers' `generate` unless its family is made for such layers.
    """
    bare = unwrap(model)
    known = bare.config.model_type in FAMILIES
    family = FAMILIES.get(bare.config.model_type, Family)(bare)
    kinds = set(getattr(family.text_config, "layer_types", None) or ())
    has_state = getattr(bare.get_decoder(), "_is_stateful", False) and not family.forks_states
    if not known or has_state or not kinds <= family.layers:
        family.decodes = known and family.layout == "padded"
        family.layout = "padded"
    return family


__all__ = ["FAMILIES", "Family", "family_of", "register_family"]
