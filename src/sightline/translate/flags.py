"""TRL's and LLaMA-Factory's flags where the recipe's own are due: what each of them is here."""

from typing import Any

from sightline.errors import shown
from sightline.recipe import Tree
from sightline.translate.llamafactory import RULES as LLAMAFACTORY
from sightline.translate.translation import Translation
from sightline.translate.trl import OLD_NAMES
from sightline.translate.trl_keys import RULES as TRL
from sightline.translate.trl_online_keys import ONLINE_RULES

EVERYTHING_ON = {"use_peft": True, "use_vllm": True, "sync_ref_model": True, "eval_strategy": "steps", "stage": "dpo"}
"""What keys need beside them to be read there."""
OBJECTIVE = ("beta", "ld_alpha", "label_smoothing", "epsilon", "epsilon_high", "gamma", "wpo", "rpo_alpha")
"""Fields of some objective, so that keys that it is made of are found."""


def here(flags: Tree) -> dict[str, str]:
    """Foreign flag → what it is here, for those of `flags` that are keys of TRL's or of LLaMA-Factory's."""
    return {name: said for name, value in flags.items() if (said := _one(name, value)) is not None}


def _one(name: str, value: Any) -> str | None:
    name = OLD_NAMES.get(name, name)
    rule = TRL.get(name) or ONLINE_RULES.get(name) or LLAMAFACTORY.get(name)
    if rule is None:
        return None
    if isinstance(rule, str):
        return _flag(f"{rule}: {value}")
    objective = {"type": "dpo", **dict.fromkeys(OBJECTIVE, value)}
    translation = Translation(source="", given={**EVERYTHING_ON, name: value}, tree={"objective": objective})
    with translation.reading():
        rule(translation, translation.given[name])
    if translation.became:
        return _flag(translation.became[0][1])
    if translation.missing:
        return f"not here: {translation.missing[0][1]}"
    return f"not needed: {translation.redundant[0][1]}" if translation.redundant else None


def _flag(new: str) -> str:
    """`model.quantize: nf4` as `--model.quantize nf4`."""
    key, _, value = new.partition(": ")
    if value.startswith("["):  # a flag gives its values one after the other
        value = value.strip("[]").replace("'", "").replace(",", "")
    return f"here `--{key.replace('_', '-')}{f' {shown(value)}' if value else ''}`"
