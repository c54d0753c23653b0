"""TRL's configs and command lines → a recipe.

Batches of its online trainers count answers and forwards; here they count prompts and optimizer steps.
"""

import shlex
from math import ceil
from pathlib import Path
from typing import Any

from sightline.config.plain_yaml import parse_scalar, read_yaml
from sightline.errors import RecipeError
from sightline.recipe import parse_flags
from sightline.translate.translation import Translation
from sightline.translate.trl_keys import RULES
from sightline.translate.trl_objective import objective_of
from sightline.translate.trl_online_keys import ONLINE_RULES

METHODS = ("sft", "dpo", "kto", "grpo", "rloo")
SIGNS = {
    "grpo": ("num_generations", "max_completion_length", "reward_funcs", "epsilon", "importance_sampling_level"),
    "dpo": ("loss_weights", "ld_alpha", "f_divergence_type", "use_weighting", "precompute_ref_log_probs", "beta"),
    "sft": ("assistant_only_loss", "completion_only_loss", "packing", "dataset_text_field"),
}
"""Keys that only one trainer has."""

DEFAULTS: dict[str, Any] = {
    "num_train_epochs": 3.0,
    "per_device_train_batch_size": 8,
    "gradient_checkpointing": True,
    "logging_steps": 10,
}
"""What a key that is left out means there, where it means something else here."""


def from_trl(text: str, method: str | None = None) -> Translation:
    """Translate a YAML file or a command line. method: sft, dpo, kto, grpo or rloo; found out where it is left out.

    Raises `RecipeError` for what is neither, or where nothing tells the method.
    """
    given, said, launcher = _read(text)
    method = method or said or _recognised(given)
    if method not in METHODS:
        raise RecipeError(f"`--method {method}`: there are {', '.join(METHODS)}.")
    name = Path(text).name if len(text) < 4096 and Path(text).is_file() else "command line"
    translation = Translation(source=f"TRL's {name} ({method})", given=_normalised(given))
    _defaults(translation, method)
    objective_of(translation, method)
    if launcher:
        translation.current = launcher
        translation.holds("launch the same way: `… -m sightline.cli.main train NEW.yaml`")
    online = method in ("grpo", "rloo")
    translation.apply({**RULES, **(ONLINE_RULES if online else {})})
    for key, value in DEFAULTS.items():
        if not translation.has(key):
            translation.default(key, value)
    _name_what_scripts_hold(translation, online, text)
    if online:
        _count_prompts(translation)
        if not translation.has("sampler.type"):
            translation.default("sampler.type", "transformers")
    return translation


def _read(text: str) -> tuple[dict[str, Any], str | None, str]:
    """The keys of a file or command line, the method that a command line names, and the words before its script."""
    if len(text) < 4096 and Path(text).is_file():
        return read_yaml(Path(text))[0], None, ""
    if " " not in text and Path(text).suffix in (".yaml", ".yml"):
        raise RecipeError(f"There is no file {text}. Give a YAML file, or a command line in quotes.")
    words = shlex.split(text.replace("\\\n", " "))
    if "vllm-serve" in words:
        raise RecipeError(
            "`trl vllm-serve` starts a server and trains nothing. Here that is `sightline rollout-server RECIPE.yaml`, "
            "with the recipe that is trained; vLLM's own flags go behind `--`."
        )
    method = _method_of(words)
    first = next((i for i, word in enumerate(words) if _starts_arguments(word)), None)
    if first is None:
        raise RecipeError(f"{text!r} is neither a file nor a command line of TRL (`trl dpo …`, `… dpo_vlm.py …`).")
    flags = parse_flags(_with_commas(words[first + 1 :]))
    given = {name: _yaml_value(value) for name, value in flags.items()}
    launcher = "" if words[0] in ("trl", "python", "python3") else " ".join(words[:first])
    if "config" in given:
        given = {**read_yaml(Path(given.pop("config")))[0], **given}
    return given, method, launcher


def _starts_arguments(word: str) -> bool:
    return word.endswith(".py") or word in METHODS


def _method_of(words: list[str]) -> str | None:
    """From `trl dpo` or from the name of a script such as `grpo_vlm.py`."""
    for word in words:
        name = Path(word).stem if word.endswith(".py") else word
        for method in METHODS:
            if name == method or (word.endswith(".py") and method in name.split("_")):
                return method
        if word.endswith(".py") and "mpo" in name.split("_"):
            return "dpo"
        if word.endswith(".py") and "gspo" in name.split("_"):
            return "grpo"
    return None


def _with_commas(words: list[str]) -> list[str]:
    """`--modules a, b, c` is written with commas and spaces."""
    return [word.rstrip(",") for word in words if word.rstrip(",")]


def _yaml_value(value: Any) -> Any:
    if isinstance(value, list):
        return [_yaml_value(one) for one in value]
    return parse_scalar(value) if isinstance(value, str) else value


def _recognised(given: dict[str, Any]) -> str:
    found = [method for method, signs in SIGNS.items() if any(sign in given for sign in signs)]
    if not found:
        raise RecipeError(
            "Nothing in this config says which trainer it is for. Add `--method dpo` (or sft, kto, grpo, rloo)."
        )
    return found[0]


def _normalised(given: dict[str, Any]) -> dict[str, Any]:
    """Old names of the same keys."""
    return {OLD_NAMES.get(name, name): value for name, value in given.items()}


OLD_NAMES = {
    "torch_dtype": "dtype",
    "lora_rank": "lora_r",
    "max_seq_length": "max_length",
    "activation_checkpointing": "gradient_checkpointing",
    "evaluation_strategy": "eval_strategy",
    "epsilon_low": "epsilon",
}


def _defaults(translation: Translation, method: str) -> None:
    given = translation.given
    translation.default("learning_rate", 2e-5 if method == "sft" else 1e-6)
    if given.get("use_peft"):
        translation.default("lora.r", 16)
        translation.default("lora.alpha", 32)
        if method in ("dpo", "kto") and given.get("disable_dropout", True):
            translation.current = "lora_dropout"
            translation.holds("0: TRL's DPO and KTO switch dropout off, the adapter's too (disable_dropout)")
        else:
            translation.default("lora.dropout", 0.05)
    if method in ("sft", "dpo", "kto") and "max_length" not in given:
        translation.current = "max_length (left out: 1024 there)"
        translation.holds("no limit: a limit would cut pictures there; give `data.max_length` where answers are long")


def _name_what_scripts_hold(translation: Translation, online: bool, text: str) -> None:
    """A script's own code is not in its command line."""
    hint = next(
        (f"; `sightline recipe show {recipe}` has the script's" for name, recipe in SCRIPTS.items() if name in text), ""
    )
    if "dataset_name" not in translation.given:
        translation.current = "the script's data set"
        translation.lacks(f"name it as `data.source`{hint}")
    if online and "reward_funcs" not in translation.given:
        translation.current = "the script's reward functions"
        translation.lacks(
            "name them as `rewards`: built-in ones, `package.module.function` or `file.py:function`" + hint
        )


SCRIPTS = {"mpo_vlm": "qwen2_5_vl_3b_mpo", "grpo_vlm": "qwen2_5_vl_3b_grpo", "gspo_vlm": "qwen2_5_vl_3b_gspo"}
"""TRL's own scripts → the recipe with the data set and rewards that stand in the script."""


def _count_prompts(translation: Translation) -> None:
    """TRL's batch is answers a forward, and its steps_per_generation forwards; here prompts, and optimizer steps."""
    given, tree = translation.given, translation.tree
    answers = int(given.get("per_device_train_batch_size", 8))
    forwards = int(given.get("gradient_accumulation_steps", 1))
    group = int(given.get("num_generations", 8 if "rloo" not in translation.source else 2))
    prompts = ceil(answers * forwards / group)
    size = max(1, min(prompts, answers // group))
    tree["per_device_train_batch_size"], tree["gradient_accumulation_steps"] = size, ceil(prompts / size)
    translation.current = f"{answers} answers × {forwards} forwards of groups of {group}"
    translation.became.append((translation.current, f"{size} × {ceil(prompts / size)} prompts a step and device"))
    if answers * forwards % group:
        translation.lacks(f"a step of {answers * forwards / group:.2f} prompts a device: rounded up to {prompts}")
    spread = given.get("steps_per_generation")
    if spread is not None:
        translation.current = f"steps_per_generation: {spread}"
        steps = int(spread) / forwards
        translation.put("sampler.steps_per_generation", max(1, ceil(steps)))
        if steps != ceil(steps):
            translation.lacks(f"{steps:g} optimizer steps a round of sampling: rounded up")
