"""Where a peft adapter lies: in a folder, or in a hub repository, whose files are then fetched."""

import re
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import snapshot_download
from peft import PeftModel
from torch import nn
from transformers.utils.peft_utils import find_adapter_config_file

from sightline.errors import ModelError, shown
from sightline.models.folder_checks import check_header, read_object
from sightline.models.trial import try_patterns

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = [CONFIG, WEIGHTS, "*token*", "*processor*", "vocab*", "merges.txt", "chat_template*"]
"""What is fetched of a repository; a pickle among its files stays there."""

LARGEST_RANK, LARGEST_ALPHA = 8_192, 1_000_000
"""Larger ones are a damaged file's."""
KNOWN_STARTS = (True, False, None, "gaussian", "eva", "olora", "pissa", "corda", "orthogonal", "lora_ga", "mica")
"""peft's `init_lora_weights` that need nothing but the file; `pissa_niter_N` is another way of writing pissa."""
NAMES = "a list of names, or a regular expression that compiles"
OF_LAYERS = ("target_modules", "target_parameters", "modules_to_save", "exclude_modules")
OF_OTHER_KINDS = ("layer_replication", "megatron_config", "loftq_config", "eva_config", "corda_config")
KEEP_BASE = ("gaussian", "eva", "orthogonal", "mica")
"""Starts of an adapter (peft's `init_lora_weights`) that leave the base as it is."""


def adapter_folder(name: str) -> Path | None:
    """The folder of an adapter, given as a folder or hub id; None for what is none, such as a whole model."""
    folder = Path(name)
    if folder.exists():
        return folder if (folder / CONFIG).is_file() else None
    if name.count("/") != 1 or name.startswith((".", "/", "~")):
        return None
    try:
        found = find_adapter_config_file(name)
        return None if found is None else Path(snapshot_download(name, allow_patterns=FILES))
    except (OSError, ValueError):
        return None  # no repository of that name is within reach


def require_adapter(name: str) -> Path:
    """The folder of an adapter with its weights. Raises `ModelError` where there is none, a pickle alone, or damage."""
    folder = adapter_folder(name)
    if folder is None:
        raise ModelError(
            f"There is no adapter in {name!r} (no {CONFIG}). Give the folder of a run that trained with LoRA, or the "
            "hub id of an adapter; a run without LoRA is a model of its own."
        )
    if not (folder / WEIGHTS).is_file():
        raise ModelError(
            f"The adapter {name!r} has no {WEIGHTS}; weights in other files, such as pickles, are not loaded. Load it "
            "once with peft and `save_pretrained` it into a new folder."
        )
    check_adapter_config(read_adapter_config(folder), folder / CONFIG)
    check_header(folder / WEIGHTS)
    return folder


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What peft wrote down of an adapter."""
    return read_object(folder / CONFIG)


def check_adapter_config(config: Mapping[str, Any], path: Path) -> None:
    """Raises `ModelError` for what is no LoRA adapter, or for a value with which peft would fail or compute nothing.

    path: of the file, for messages.
    """

    ranks = f"a rank, a whole number from 1 to {LARGEST_RANK:,}"
    alphas = f"a number, at most {LARGEST_ALPHA:,}"
    checks = [
        ("peft_type", config.get("peft_type") == "LORA", "LORA: other kinds of adapter are not loaded"),
        *((key, _is_rank(value), ranks) for key, value in _with_patterns(config, "r", "rank_pattern")),
        *((key, _is_alpha(value), alphas) for key, value in _with_patterns(config, "lora_alpha", "alpha_pattern")),
        ("lora_dropout", _is_share(config.get("lora_dropout", 0.0)), "a number from 0 to below 1"),
        *((key, _are_names(config.get(key)), NAMES) for key in OF_LAYERS),
        ("init_lora_weights", _is_start(config.get("init_lora_weights", True)), f"one of {KNOWN_STARTS}"),
        *((key, not config.get(key), "nothing: such adapters are not loaded") for key in OF_OTHER_KINDS),
        ("megatron_core", config.get("megatron_core") in (None, "megatron.core"), "megatron.core, as peft writes it"),
        (
            "base_model_name_or_path",
            isinstance(config.get("base_model_name_or_path"), str | None),
            "the name of a model",
        ),
    ]
    for key, holds, expected in checks:
        if not holds:
            raise ModelError(f"{path}: `{key}` is {shown(config.get(key))!r}; expected is {expected}.")


def _with_patterns(config: Mapping[str, Any], key: str, pattern: str) -> list[tuple[str, Any]]:
    """A number of all layers, and those of some layers by pattern, each with the key that it stands under."""
    by_layer = config.get(pattern) or {}
    found = [(pattern, value) for value in by_layer.values()] if isinstance(by_layer, dict) else [(pattern, None)]
    return [(key, config.get(key, 8)), *found]


def _is_rank(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= LARGEST_RANK


def _is_alpha(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) <= LARGEST_ALPHA


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and 0 <= value < 1


def _is_start(value: Any) -> bool:
    return value in KNOWN_STARTS or re.fullmatch(r"pissa_niter_\d{1,3}", str(value)) is not None


def _are_names(value: Any) -> bool:
    """A list of texts, or one text: a regular expression that compiles."""
    if isinstance(value, str):
        try:
            re.compile(value)
        except (re.error, RecursionError, OverflowError):
            return False
        return True
    return value is None or (isinstance(value, list) and all(isinstance(name, str) for name in value))


def with_adapter(
    model: nn.Module, folder: str | Path, *, name: str = "default", is_trainable: bool = False
) -> PeftModel:
    """The model with an adapter of a folder on it, beside those it has. name: inside peft, neutral.

    Raises `ModelError` where the adapter does not fit the model.
    """
    options: dict[str, Any] = {"adapter_name": name, "is_trainable": is_trainable}
    _try_patterns(read_adapter_config(Path(folder)), model, Path(folder) / CONFIG)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of missing keys, which are an error here
            if not isinstance(model, PeftModel):
                model = PeftModel.from_pretrained(model, str(folder), **options)  # pyright: ignore[reportArgumentType]
            # peft's `from_pretrained` does not say which keys found no place; loading again does
            result = model.load_adapter(str(folder), **options)
    except Exception as error:  # whatever peft raises for values that make no sense
        said = str(error).strip().splitlines()
        raise ModelError(
            f"The adapter {str(folder)!r} does not fit this model: {shown(said[-1] if said else error, 200)} Name the "
            "model that it was trained on."
        ) from error
    check_keys(result, folder)
    _check_adapter_finite(model, name, folder)
    return model


def _try_patterns(config: Mapping[str, Any], model: nn.Module, path: Path) -> None:
    """Raises `ModelError` for regular expressions of adapter_config.json that do not compile or never get done."""
    names = [name for name, _ in model.named_modules()]
    for key in ("target_modules", "exclude_modules"):
        if isinstance(config.get(key), str) and config[key] != "all-linear":
            try_patterns([config[key]], names, f"{path}: {key}")
    for key in ("rank_pattern", "alpha_pattern"):
        # as peft completes them
        try_patterns([rf"(.*\.)?({one})$" for one in config.get(key) or {}], names, f"{path}: {key}")


def _check_adapter_finite(model: PeftModel, name: str, folder: str | Path) -> None:
    for tensor, weight in model.named_parameters():
        if f".{name}." in tensor and not bool(torch.isfinite(weight).all()):
            raise ModelError(f"The adapter {str(folder)!r} holds NaN or Inf in {tensor!r}. Take an earlier checkpoint.")


def check_keys(result: Any, folder: str | Path) -> None:
    """Raises `ModelError` where an adapter's weights and the model's layers do not fit one another.

    result: what peft's `load_adapter` returned. Weights that find no layer are dropped in silence by peft, and layers
    without weights stay as they start: the base would answer in the adapter's name.
    """
    missing, unexpected = list(result.missing_keys), list(result.unexpected_keys)
    if not missing and not unexpected:
        return
    counts = [
        f"{len(unexpected)} of its tensors fit no layer of the model, such as {unexpected[0]!r}" if unexpected else "",
        f"{len(missing)} of the adapted layers' tensors are not in it, such as {missing[0]!r}" if missing else "",
    ]
    why = "; ".join(filter(None, counts))
    raise ModelError(
        f"The adapter {str(folder)!r} does not fit this model: {why}. Name the model that it was trained on; where its "
        "names are those of another version of transformers, save it again with that one."
    )


def changes_base(config: Mapping[str, Any]) -> bool:
    """Whether peft changes the weights of the base when it loads an adapter of this adapter_config.json.

    PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ take the adapter's start out of them: W ← W − s·B₀·A₀.
    """
    start = config.get("init_lora_weights")
    return isinstance(start, str) and start not in KEEP_BASE
