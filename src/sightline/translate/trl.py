"""TRL's configs, command lines and scripts → a recipe.

Batches of its online trainers count answers and forwards; here they count prompts and optimizer steps.
"""

import shlex
from dataclasses import dataclass, field
from math import ceil
from pathlib import Path
from typing import Any

from sightline.config.plain_yaml import parse_scalar, read_yaml
from sightline.errors import RecipeError, shown
from sightline.recipe import parse_flags
from sightline.translate.script import Script, read_script
from sightline.translate.training_keys import is_file
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


@dataclass(frozen=True, kw_only=True)
class Source:
    """What was given to translate.

    given: its keys. name: for the heading. method: that it names. launcher: words before a script. folder: what lies
    beside it. script: what was read of a Python script's own code.
    """

    given: dict[str, Any]
    name: str
    method: str | None = None
    launcher: str = ""
    folder: Path = field(default_factory=Path)
    script: Script | None = None


def from_trl(text: str, method: str | None = None) -> Translation:
    """Translate a YAML file, a command line or a Python script. method: sft, dpo, kto, grpo or rloo; found out where
    it is left out.

    Raises `RecipeError` for what is none of them, where nothing tells the method, or where no key could be read.
    """
    source = _read(text)
    method = method or source.method or _recognised(source.given)
    if method not in METHODS:
        raise RecipeError(f"`--method {method}`: there are {', '.join(METHODS)}.")
    translation = Translation(
        source=f"TRL's {source.name} ({method})", given=_normalised(source.given), folder=source.folder
    )
    online = method in ("grpo", "rloo")
    rules = {**RULES, **(ONLINE_RULES if online else {})}
    if not translation.given.keys() & rules.keys():
        raise RecipeError(f"{source.name} has no key of TRL's in it, so nothing could be translated.")
    with translation.reading():
        _defaults(translation, method)
        objective_of(translation, method)
    if source.launcher:
        translation.current = source.launcher
        translation.holds("launch the same way: `… -m sightline.cli.main train NEW.yaml`")
    translation.apply(rules)
    for key, value in DEFAULTS.items():
        if not translation.has(key):
            translation.default(key, value)
    if source.script is not None:
        source.script.note(translation)
    _name_what_scripts_hold(translation, online, text)
    if online:
        with translation.reading():
            _count_prompts(translation)
        if not translation.has("sampler.type"):
            translation.default("sampler.type", "transformers")
    return translation


def _read(text: str) -> Source:
    if is_file(text):
        path = Path(text)
        if path.suffix == ".py":
            return _from_script(path)
        return Source(given=read_yaml(path)[0], name=path.name, folder=path.parent)
    if " " not in text and Path(text[:255]).suffix in (".yaml", ".yml", ".py"):
        raise RecipeError(f"There is no file {shown(text)}. Give a YAML file, a script, or a command line in quotes.")
    return _from_words(text)


def _from_script(path: Path, given: dict[str, Any] | None = None, launcher: str = "") -> Source:
    script = read_script(path)
    keys = {**script.given, **(given or {})}
    return Source(
        given=keys, name=path.name, method=script.method, launcher=launcher, folder=path.parent, script=script
    )


def _from_words(text: str) -> Source:
    """A command line. Where it gives no arguments, its script's own code has them."""
    try:
        words = shlex.split(text.replace("\\\n", " "))
    except ValueError as error:
        raise RecipeError(f"{shown(text)!r} is no command line: {error}.") from None
    if "vllm-serve" in words:
        raise RecipeError(
            "`trl vllm-serve` starts a server and trains nothing. Here that is `sightline rollout-server RECIPE.yaml`, "
            "with the recipe that is trained; vLLM's own flags go after `--`."
        )
    first = next((i for i, word in enumerate(words) if word.endswith(".py") or word in METHODS), None)
    if first is None:
        raise RecipeError(
            f"{shown(text)!r} is neither a file nor a command line of TRL (`trl dpo …`, `… dpo_vlm.py …`)."
        )
    flags = parse_flags(_with_commas(words[first + 1 :]))
    given = {name: _yaml_value(value) for name, value in flags.items()}
    launcher = "" if words[0] in ("trl", "python", "python3") else " ".join(words[:first])
    folder = Path()
    if "config" in given:
        path = Path(str(given.pop("config")))
        given, folder = {**read_yaml(path)[0], **given}, path.parent
    if not given:
        if is_file(words[first]):
            return _from_script(Path(words[first]), launcher=launcher)
        raise RecipeError(
            f"{shown(text)!r} gives no arguments, and there is no file {shown(words[first])} to read them from. Give "
            "the whole line, or the path of the script."
        )
    return Source(given=given, name="command line", method=_method_of(words), launcher=launcher, folder=folder)


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
    return {OLD_NAMES.get(str(name), str(name)): value for name, value in given.items()}


OLD_NAMES = {
    "torch_dtype": "dtype",
    "lora_rank": "lora_r",
    "max_seq_length": "max_length",
    "activation_checkpointing": "gradient_checkpointing",
    "evaluation_strategy": "eval_strategy",
    "epsilon_low": "epsilon",
}


def _defaults(translation: Translation, method: str) -> None:
    """What TRL means by keys that are left out, where that is something else here."""
    given = translation.given
    adapts = bool(given.get("use_peft"))
    rate = 2e-5 if method == "sft" else 1e-6
    translation.default("learning_rate", rate)
    if adapts and "learning_rate" not in given:
        translation.current = f"learning_rate (left out: {rate:g} there)"
        translation.note(f"learning_rate: {rate:g}, meant for all weights; an adapter usually takes ten times as much")
    if "dtype" not in given and not (given.get("load_in_4bit") or given.get("load_in_8bit")):
        translation.current = "dtype (left out: float32 there)"
        translation.put("model.dtype", "float32")
    if not adapts:
        translation.current = "no use_peft: all weights are trained there"
        translation.put("model.freeze_vision", False)
        translation.put("model.freeze_projector", False)
    else:
        _adapter_defaults(translation, method)
    if method in ("sft", "dpo", "kto") and "max_length" not in given:
        translation.current = "max_length (left out: 1024 there)"
        translation.holds("no limit: a limit would cut images there; give `data.max_length` where answers are long")


def _adapter_defaults(translation: Translation, method: str) -> None:
    given = translation.given
    translation.default("lora.r", 16)
    translation.default("lora.alpha", 32)
    if method in ("dpo", "kto") and given.get("disable_dropout", True):
        translation.current = "lora_dropout"
        translation.holds("0: TRL's DPO and KTO switch dropout off, the adapter's too (disable_dropout)")
    else:
        translation.default("lora.dropout", 0.05)
    if "lora_target_modules" not in given:
        translation.current = "lora_target_modules (left out: peft's names for the model there)"
        translation.note("lora.target_modules: language, all linear layers of the language model")


def _name_what_scripts_hold(translation: Translation, online: bool, text: str) -> None:
    """A script's own code is not in its command line."""
    hint = next(
        (f"; `sightline recipe show {recipe}` has the script's" for name, recipe in SCRIPTS.items() if name in text), ""
    )
    if "dataset_name" not in translation.given:
        translation.current = "the script's data set"
        translation.lacks(f"name it as `data.source`{hint}")
    if online and "reward_funcs" not in translation.given and not translation.has("rewards"):
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
    if min(answers, forwards, group) < 1:
        raise ValueError("batch sizes and num_generations are 1 or more")
    prompts = ceil(answers * forwards / group)
    size = max(1, min(prompts, answers // group))
    tree["per_device_train_batch_size"], tree["gradient_accumulation_steps"] = size, ceil(prompts / size)
    translation.current = f"{answers} answers × {forwards} forwards of groups of {group}"
    translation.note(f"{size} × {ceil(prompts / size)} prompts a step and device")
    if answers * forwards % group:
        translation.lacks(f"a step of {answers * forwards / group:.2f} prompts a device: rounded up to {prompts}")
    spread = given.get("steps_per_generation")
    if spread is not None:
        translation.current = f"steps_per_generation: {spread}"
        steps = int(spread) / forwards
        translation.put("sampler.steps_per_generation", max(1, ceil(steps)))
        if steps != ceil(steps):
            translation.lacks(f"{steps:g} optimizer steps a round of sampling: rounded up")
