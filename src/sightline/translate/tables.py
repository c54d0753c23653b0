"""Rules of keys that need no more than a name or a reason, from keys.yaml."""

from functools import cache
from importlib.resources import files
from typing import Any

import yaml

from sightline.config.online import COLOCATE_ONLY, SERVER_ONLY
from sightline.translate.translation import Rule, Translation

OFF = "off, as it is here"


@cache
def _tables() -> dict[str, Any]:
    return yaml.safe_load((files("sightline.translate") / "keys.yaml").read_text(encoding="utf-8"))


def rules_of(section: str) -> dict[str, Rule]:
    """Key → rule, for one section of keys.yaml."""
    kinds = {
        "to": lambda name: name,
        "redundant": redundant,
        "missing": missing,
        "of_objective": lambda names: of_objective(*([names] if isinstance(names, str) else names)),
        "of_adapter": of_adapter,
        "of_vllm": of_vllm,
    }
    table = _tables()[section]
    rules: dict[str, Rule] = {name: name for name in table.get("same", ())}
    for kind, make in kinds.items():
        rules |= {key: make(value) for key, value in table.get(kind, {}).items()}
    return rules


def redundant(why: str) -> Rule:
    """A rule for what holds here without being said."""
    return lambda translation, value: translation.holds(why)


def missing(why: str) -> Rule:
    """A rule for what has no counterpart; said only where it asks for something."""

    def rule(translation: Translation, value: Any) -> None:
        asks = value not in (None, False, 0, "", "no", "none")
        (translation.lacks if asks else translation.holds)(why if asks else OFF)

    return rule


def of_objective(*names: str) -> Rule:
    """A rule for a key that the objective was made of, before the keys are gone through."""

    def rule(translation: Translation, value: Any) -> None:
        objective = translation.tree["objective"]
        found = [name for name in names if name in objective]
        if found:
            translation.note(", ".join(f"objective.{name}: {objective[name]}" for name in found))
        elif value in (None, False, 0, 0.0, [], "reverse_kl"):
            translation.holds(OFF)
        else:
            translation.lacks(f"`objective.type: {objective['type']}` takes no such option")

    return rule


def of_adapter(name: str) -> Rule:
    """A field of the adapter; without `use_peft` TRL reads none of them."""

    def rule(translation: Translation, value: Any) -> None:
        if not translation.given.get("use_peft"):
            translation.holds("not read there without use_peft")
        elif value is None:
            translation.holds("the default")
        else:
            translation.put(f"lora.{name}", value)

    return rule


def of_vllm(name: str) -> Rule:
    """A field of the vLLM sampler; without `use_vllm` TRL reads none of them."""

    def rule(translation: Translation, value: Any) -> None:
        server = translation.given.get("vllm_mode", "colocate") == "server"
        if not translation.given.get("use_vllm"):
            translation.holds("not read there without use_vllm")
        elif value is None:
            translation.holds("the default")
        elif server and name in COLOCATE_ONLY:
            translation.lacks("belongs to the server: give it to `sightline rollout-server`")
        elif not server and name in SERVER_ONLY:
            translation.holds("not read there without vllm_mode server")
        else:
            translation.put(f"sampler.{name}", value)

    return rule
