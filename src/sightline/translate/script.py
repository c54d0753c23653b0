"""A Python script that trains with TRL, read as text and never run: the plain values that its config, model, adapter
and data set are made with."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sightline.config.plain_yaml import MAX_BYTES
from sightline.errors import RecipeError, shown
from sightline.translate.translation import Translation

CONFIGS = {"SFTConfig": "sft", "DPOConfig": "dpo", "KTOConfig": "kto", "GRPOConfig": "grpo", "RLOOConfig": "rloo"}
TRAINERS = tuple(name.replace("Config", "Trainer") for name in CONFIGS)
ADAPTER = {
    name: f"lora_{name}" for name in ("r", "target_modules", "modules_to_save", "task_type", "target_parameters")
}
"""LoraConfig's arguments whose names differ from TRL's keys."""
OFF_IN_ADAPTER = (("bias", "none"), ("inference_mode", False), ("init_lora_weights", True))
ADAPTER_DEFAULTS = {"lora_r": 8, "lora_alpha": 8, "lora_dropout": 0.0}
"""peft's, which are others than those of TRL's command line."""
LOADING = {"torch_dtype": "dtype", "dtype": "dtype", "attn_implementation": "attn_implementation",
           "revision": "model_revision", "trust_remote_code": "trust_remote_code"}  # fmt: skip
"""Arguments of `from_pretrained` → keys of TRL."""
UNREAD = object()
"""Stands for what is no plain value in the script."""


@dataclass
class Script:
    """What was read. given: by TRL's names. unread: (argument, why). processor: options of the processor."""

    path: Path
    method: str
    given: dict[str, Any] = field(default_factory=dict)
    processor: dict[str, Any] = field(default_factory=dict)
    unread: list[tuple[str, str]] = field(default_factory=list)
    maps_rows: bool = False

    def note(self, translation: Translation) -> None:
        """What is not a key of TRL's, into the translation."""
        for name, value in self.processor.items():
            translation.current = f"AutoProcessor.from_pretrained(…, {name}={value})"
            translation.put(f"model.processor.{name}", value)
        for argument, why in self.unread:
            translation.current = argument
            translation.lacks(why)
        if self.maps_rows:
            translation.current = "the script's dataset.map(…)"
            translation.holds("rows load as they are; sizes of images are `model.processor`'s")


def read_script(path: Path) -> Script:
    """Read a script. Raises `RecipeError` for one that is no Python, or has no config of TRL's in it, or several."""
    try:
        text = path.read_bytes()[: MAX_BYTES + 1].decode("utf-8")
        tree = ast.parse(text)
    except (OSError, ValueError, SyntaxError, RecursionError, MemoryError) as error:
        raise RecipeError(f"{shown(path)} is no Python that can be read: {shown(error)}.") from None
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    configs = [call for call in calls if name_of(call) in CONFIGS]
    if not configs:
        raise RecipeError(
            f"{shown(path)} makes none of {', '.join(CONFIGS)}, so there is nothing to translate. Give the command "
            "line with its arguments in quotes, or write their keys into a YAML file."
        )
    if len({name_of(call) for call in configs}) > 1 or len(configs) > 1:
        lines = ", ".join(f"{name_of(call)} in line {call.lineno}" for call in configs)
        raise RecipeError(f"{shown(path)} makes several configs ({lines}). Translate a script with one of them.")
    script = Script(path=path, method=CONFIGS[name_of(configs[0])])
    constants = _constants(tree)
    for call in calls:
        _read_call(script, call, constants)
    return script


def name_of(call: ast.Call) -> str:
    """`from_pretrained` of `AutoModel.from_pretrained(…)`, `DPOConfig` of `trl.DPOConfig(…)`."""
    match call.func:
        case ast.Attribute(attr=name) | ast.Name(id=name):
            return name
    return ""


def _read_call(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    name = name_of(call)
    if name in CONFIGS or name == "BitsAndBytesConfig":
        script.given |= dict(_arguments(script, call, constants))
    elif name in TRAINERS:
        _read_trainer(script, call, constants)
    elif name in READERS:
        READERS[name](script, call, constants)


def _read_adapter(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    script.given = {"use_peft": True, **ADAPTER_DEFAULTS, **script.given}
    for key, value in _arguments(script, call, constants):
        if (key, value) not in OFF_IN_ADAPTER:
            script.given[ADAPTER.get(key, key)] = value


def _read_resizing(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    script.unread.append((shown(ast.unparse(call), 60), "say how large images are with `model.processor`"))


def _read_map(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    script.maps_rows = True


def _read_loading(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    loader = call.func.value if isinstance(call.func, ast.Attribute) else None
    kind = ast.unparse(loader) if loader is not None else ""
    arguments = dict(_arguments(script, call, constants))
    if "Processor" in kind:
        script.processor |= {key: value for key, value in arguments.items() if key not in LOADING}
    elif kind.startswith("Peft"):
        script.unread.append((f"{kind}.from_pretrained", "an adapter that is trained further is `lora.adapter`"))
    elif "Model" in kind:
        named = _value(call.args[0], constants) if call.args else arguments.pop("pretrained_model_name_or_path", UNREAD)
        if isinstance(named, str):
            script.given.setdefault("model_name_or_path", named)
        script.given.setdefault("dtype", "auto")
        script.given |= {LOADING[key]: value for key, value in arguments.items() if key in LOADING}
        script.unread += [
            (f"{key}={shown(value)}", "no field here") for key, value in arguments.items() if key not in LOADING
        ]


def _read_data(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    if "dataset_name" in script.given:
        script.unread.append((f"load_dataset in line {call.lineno}", "another set; several are `data.mixture`"))
        return
    values = [_value(argument, constants) for argument in call.args]
    keys = dict(_arguments(script, call, constants))
    for key, value in zip(("dataset_name", "dataset_config"), values, strict=False):
        if isinstance(value, str):
            script.given[key] = value
    names = {"path": "dataset_name", "name": "dataset_config", "split": "dataset_train_split"}
    script.given |= {names[key]: value for key, value in keys.items() if key in names}


def _read_trainer(script: Script, call: ast.Call, constants: dict[str, Any]) -> None:
    for keyword in call.keywords:
        value = _value(keyword.value, constants)
        if keyword.arg == "model" and isinstance(value, str):
            script.given["model_name_or_path"] = value
        if keyword.arg == "reward_funcs":
            named = ast.unparse(keyword.value).strip("[]")
            script.unread.append((f"reward_funcs: {shown(named)}", OWN_REWARDS))


READERS: dict[str, Callable[[Script, ast.Call, dict[str, Any]], None]] = {
    "LoraConfig": _read_adapter,
    "from_pretrained": _read_loading,
    "load_dataset": _read_data,
    "map": _read_map,
    "thumbnail": _read_resizing,
    "resize": _read_resizing,
}
OWN_REWARDS = "put functions into a file of their own, and name each in `rewards` as `file.py:function`"


def _arguments(script: Script, call: ast.Call, constants: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The named arguments that are plain values; the others are noted."""
    for keyword in call.keywords:
        value = _value(keyword.value, constants)
        if keyword.arg is None or value is UNREAD:
            shown_value = shown(ast.unparse(keyword.value), 60)
            script.unread.append((f"{keyword.arg or '**'}={shown_value}", "no plain value in the script: write it out"))
        else:
            yield keyword.arg, value


def _value(node: ast.expr, constants: dict[str, Any]) -> Any:
    """A plain value, `torch.bfloat16` as its name, a name that is given such a value once; else `UNREAD`."""
    match node:
        case ast.Attribute(value=ast.Name(id="torch"), attr=name):
            return name
        case ast.Name(id=name):
            return constants.get(name, UNREAD)
    try:
        return ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return UNREAD


def _constants(tree: ast.Module) -> dict[str, Any]:
    """Names that are given a plain value in one place of the script."""
    found: dict[str, Any] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Assign) and len(node.targets) == 1 and isinstance(node.targets[0], ast.Name):
            name = node.targets[0].id
            found[name] = UNREAD if name in found else _value(node.value, {})
    return {name: value for name, value in found.items() if value is not UNREAD}
