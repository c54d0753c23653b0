"""Which family a model belongs to."""

from typing import Any

from torch import nn

from sightline.errors import RecipeError
from sightline.models.families.ernie import ErnieFamily
from sightline.models.families.family import Family
from sightline.models.families.gemma import (
    Gemma3Family,
    Gemma4Family,
    Gemma4UnifiedFamily,
    PaliGemmaFamily,
)
from sightline.models.families.granite import GraniteFamily
from sightline.models.families.hunyuan import HunYuanFamily
from sightline.models.families.hybrid import HybridFamily
from sightline.models.families.llama4 import Llama4Family
from sightline.models.families.minicpm import MiniCPMFamily
from sightline.models.families.mllama import MllamaFamily
from sightline.models.families.molmo import MolmoFamily
from sightline.models.families.qwen import QwenFamily, QwenHybridFamily
from sightline.models.families.smolvlm import SmolVLMFamily
from sightline.models.families.tokenized import TokenizedFamily
from sightline.models.unwrap import unwrap

FAMILIES: dict[str, type[Family]] = {
    "aria": Family,
    "aya_vision": Family,
    "chameleon": TokenizedFamily,
    "cohere2_vision": Family,
    "cohere_compass": Family,
    "cosmos3_edge": Family,
    "cosmos3_omni": Family,
    "deepseek_vl": Family,
    "deepseek_vl_hybrid": Family,
    "deepseek_ocr2": Family,
    "emu3": TokenizedFamily,
    "ernie4_5_vl_moe": ErnieFamily,
    "exaone4_5": Family,
    "fast_vlm": Family,
    "gemma3": Gemma3Family,
    "gemma3n": Family,
    "gemma4": Gemma4Family,
    "gemma4_unified": Gemma4UnifiedFamily,
    "glm46v": Family,
    "glm4v": Family,
    "glm4v_moe": Family,
    "glm_ocr": Family,
    "glmga": Family,
    "got_ocr2": Family,
    "granite4_vision": GraniteFamily,
    "granite_docling": Family,
    "hunyuan_vl": HunYuanFamily,
    "hyperclovax_vision_v2": Family,
    "idefics2": Family,
    "idefics3": Family,
    "internvl": Family,
    "janus": Family,
    "kimi_k25": Family,
    "lfm2_vl": HybridFamily,
    "lfm3_vl": HybridFamily,
    "lighton_ocr": Family,
    "llama4": Llama4Family,
    "llava": Family,
    "llava_next": Family,
    "llava_next_video": Family,
    "llava_onevision": Family,
    "minicpm_ocr": MiniCPMFamily,
    "minicpmv4_6": MiniCPMFamily,
    "minicpmv4_7": MiniCPMFamily,
    "minimax_m3_vl": Family,
    "mistral3": Family,
    "mllama": MllamaFamily,
    "molmo2": MolmoFamily,
    "muse_glimmer": Family,
    "muse_spark": Family,
    "ovis2": Family,
    "paddleocr_vl": Family,
    "paligemma": PaliGemmaFamily,
    "perception_lm": Family,
    "pp_chart2table": Family,
    "qianfan_ocr": Family,
    "qwen2_5_omni_thinker": Family,
    "qwen2_5_vl": QwenFamily,
    "qwen2_vl": QwenFamily,
    "qwen3_5": QwenHybridFamily,
    "qwen3_5_moe": QwenHybridFamily,
    "qwen3_omni_moe_thinker": Family,
    "qwen3_vl": QwenFamily,
    "qwen3_vl_moe": QwenFamily,
    "smolvlm": SmolVLMFamily,
    "step3p7": Family,
    "video_llama_3": Family,
    "video_llava": Family,
    "vipllava": Family,
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

    A model that is not in the table is treated as the ordinary case, which training tries on a real group before its
    first step; its answers are left to transformers' `generate`. A model whose layers are not exact with a shared
    prefix is padded (`Family.why_padded`).
    """
    bare = unwrap(model)
    family = FAMILIES.get(bare.config.model_type, Family)(bare)
    family.is_known = bare.config.model_type in FAMILIES
    family.decodes = family.decodes and family.is_known
    reason = _why_padded(family)
    if reason and family.layout == "prefix":
        family.layout, family.why_padded, family.decodes = "padded", reason, False
    return family


def _why_padded(family: Family) -> str | None:
    """What speaks against a shared prefix, as far as the config tells; None for nothing."""
    kinds = sorted(set(getattr(family.text_config, "layer_types", None) or ()) - family.layers)
    if kinds:
        return f"layers of the kind {', '.join(kinds)}, which take no mask of ours"
    if getattr(family.model.get_decoder(), "_is_stateful", False) and not family.forks_states:
        return "layers that keep a state, which take no mask"
    if family.router_coefficient and not family.is_known:
        return "a router, whose loss is compared by `make models` only"
    return None


__all__ = ["FAMILIES", "Family", "family_of", "register_family"]
