"""The files of a model or adapter folder, checked before anything is built from them: which file, which key, what for.

What is looked at: that JSON is an object, that sizes in config.json are such as a model can have, and the headers of
safetensors (whole, every tensor of a floating dtype). Weights themselves are read once, after loading (`check_finite`).
"""

import json
import math
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import nn

from sightline.errors import ModelError, shown

LARGEST = {"layers": 2_000, "heads": 4_096, "size": 2**24, "channels": 4_096, "experts": 4_096}
"""Ends of names in config.json → the largest number that is believed, far above any model's."""
NUMBERS = ("_theta", "_eps", "_factor", "_dim", "_range", "_dropout")
"""Ends of names in config.json that hold a number, of whatever size."""
SWITCHES = re.compile("^(freeze|use)_|^block_auto_adjust_ff_dim$")
"""Names that may end like numbers and are true or false (Idefics, LFM2)."""
OBJECTS = (
    "config.json",
    "generation_config.json",
    "processor_config.json",
    "preprocessor_config.json",
    "video_preprocessor_config.json",
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "vocab.json",
    "chat_template.json",
)
"""Files of a model's folder that hold a JSON object, where they are there."""
WHOLE_NUMBERS = ("I8", "I16", "I32", "I64", "U16", "U32", "U64", "BOOL")
"""Dtypes in which no weight is stored; 8-bit unsigned ones are quantised weights."""


def read_object(path: Path) -> dict[str, Any]:
    """The JSON object in a file. Raises `ModelError` where it is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, ValueError, RecursionError) as error:
        raise ModelError(f"{path} cannot be read as JSON ({_first_line(error)}). Copy or download it again.") from None
    if not isinstance(found, dict):
        raise ModelError(f"{path} holds a {type(found).__name__}; expected is an object, `{{…}}`.")
    return found


def check_model_folder(folder: Path) -> None:
    """Raises `ModelError` for sizes in config.json that no model has, and for weights' files that are damaged."""
    for name in OBJECTS:
        if (folder / name).is_file():
            found = read_object(folder / name)
            if name in ("config.json", "generation_config.json"):
                check_token_ids(found, folder / name)
    config = read_object(folder / "config.json")
    check_sizes(config, folder / "config.json")
    check_feature_layer(config, folder / "config.json")
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        named = read_object(index).get("weight_map")
        if not isinstance(named, dict) or not all(isinstance(file, str) for file in named.values()):
            raise ModelError(f"{index} has no `weight_map` of tensor names to files. Copy or download it again.")
        outside = [file for file in sorted(set(named.values())) if not file.endswith(".safetensors") or "/" in file]
        if outside:
            raise ModelError(f"{index} names {shown(outside[0])!r}; only .safetensors files beside it are loaded.")
        missing = [file for file in sorted(set(named.values())) if not (folder / file).is_file()]
        if missing:
            raise ModelError(f"{index} names {missing[0]!r}, which is not in {folder}. Copy or download it.")
    for path in sorted(folder.glob("*.safetensors")):
        check_header(path)


def check_sizes(config: Mapping[str, Any], path: Path) -> None:
    """Raises `ModelError` for a size that is no number, below what a model needs, or larger than any model's."""
    for name, value in _numbers(config, ""):
        key = name.rpartition(".")[2]
        if isinstance(value, bool) and SWITCHES.search(key):
            continue
        if key.endswith(NUMBERS) and value is not None and (isinstance(value, bool | str) or not math.isfinite(value)):
            raise ModelError(f"{path}: `{name}` is {shown(value)!r}; expected is a number.")
        limit = next((most for end, most in LARGEST.items() if key.endswith(end)), None)
        if limit is None or value is None or key.startswith(("eos", "bos", "pad")):
            continue
        if isinstance(value, bool) or not isinstance(value, int):
            raise ModelError(f"{path}: `{name}` is {shown(value)!r}; expected is a whole number.")
        least = 0 if key.endswith(("layers", "experts")) or re.search("window|num_|^additional", key) else 1
        if not least <= value <= limit:
            raise ModelError(f"{path}: `{name}: {value}` is not a size that a model can have ({least} to {limit:,}).")


def check_token_ids(config: Mapping[str, Any], path: Path) -> None:
    """Raises `ModelError` where the number of a token, or one of a list of them, is no whole number."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            check_token_ids(value, path)
        elif key.endswith(("_token_id", "_token_index")) and value is not None:
            ids = value if isinstance(value, list) else [value]
            if not all(isinstance(one, int) and not isinstance(one, bool) for one in ids):
                raise ModelError(f"{path}: `{key}` is {shown(value)!r}; expected is the number of a token.")


def check_feature_layer(config: Mapping[str, Any], path: Path) -> None:
    """Raises `ModelError` where image features come from a layer that the vision tower does not have."""
    layer, tower = config.get("vision_feature_layer"), config.get("vision_config")
    number = tower.get("num_hidden_layers") if isinstance(tower, Mapping) else None
    if layer is None or not isinstance(number, int):
        return
    wrong = [
        one
        for one in (layer if isinstance(layer, list) else [layer])
        if isinstance(one, bool) or not isinstance(one, int) or not -number - 1 <= one <= number
    ]
    if wrong:
        raise ModelError(
            f"{path}: `vision_feature_layer` is {shown(wrong[0])!r}; the vision tower has {number} layers."
        )


def _numbers(config: Mapping[str, Any], prefix: str) -> Iterator[tuple[str, Any]]:
    """Names and values of what is a number or ought to be one, groups inside included."""
    for key, value in config.items():
        if isinstance(value, Mapping):
            yield from _numbers(value, f"{prefix}{key}.")
        elif isinstance(value, str | int | float) or value is None:
            yield f"{prefix}{key}", value


def check_header(path: Path) -> None:
    """Raises `ModelError` where a safetensors file is damaged or holds weights as whole numbers."""
    try:
        with safe_open(path, "pt") as file:
            kinds = {name: file.get_slice(name).get_dtype() for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError, ValueError, MemoryError) as error:
        raise ModelError(f"{path} is damaged ({_first_line(error)}). Copy or download it again.") from None
    wrong = [name for name, kind in kinds.items() if kind in WHOLE_NUMBERS and name.endswith(("weight", "bias"))]
    if wrong:
        raise ModelError(
            f"{path}: the tensor {wrong[0]!r} is stored as {kinds[wrong[0]]}; weights are floating-point numbers. "
            "Copy or convert the model again."
        )


def check_finite(model: nn.Module, name: str) -> None:
    """Raises `ModelError` for a weight that holds NaN or Inf: everything computed from it would, too."""
    for tensor, weight in model.named_parameters():
        if weight.is_floating_point() and weight.device.type != "meta" and not bool(torch.isfinite(weight).all()):
            raise ModelError(
                f"The weight {tensor!r} of {name!r} holds NaN or Inf, so that nothing could be computed with it. Copy "
                "or download the model again, or take an earlier checkpoint."
            )


def _first_line(error: BaseException) -> str:
    return shown(str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__, 200)
