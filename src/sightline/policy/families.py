"""Which family a model belongs to."""

from torch import nn

from sightline.policy.family import Family
from sightline.policy.qwen import QwenFamily
from sightline.policy.unwrap import unwrap

FAMILIES: dict[str, type[Family]] = {
    "llava": Family,
    "idefics3": Family,
    "smolvlm": Family,
    "qwen2_vl": QwenFamily,
}


def family_of(model: nn.Module) -> Family:
    """The family of a model, wrapped (DDP, peft, compile) or bare."""
    bare = unwrap(model)
    return FAMILIES.get(bare.config.model_type, Family)(bare)
