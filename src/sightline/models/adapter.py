"""Where a peft adapter lies: in a folder, or in a hub repository, whose files are then fetched."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from huggingface_hub import snapshot_download
from safetensors import SafetensorError, safe_open
from transformers.utils.peft_utils import find_adapter_config_file

from sightline.errors import ModelError

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
FILES = [CONFIG, WEIGHTS, "*token*", "*processor*", "vocab*", "merges.txt", "chat_template*"]
"""What is fetched of a repository; a pickle among its files stays there."""

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
    try:
        with safe_open(folder / WEIGHTS, "pt") as file:
            file.keys()
    except SafetensorError as error:
        raise ModelError(f"{folder / WEIGHTS} is damaged ({error}). Copy or download it again.") from None
    return folder


def read_adapter_config(folder: Path) -> dict[str, Any]:
    """What peft wrote down of an adapter."""
    return json.loads((folder / CONFIG).read_text(encoding="utf-8"))


def changes_base(config: Mapping[str, Any]) -> bool:
    """Whether peft changes the weights of the base when it loads an adapter of this adapter_config.json.

    PiSSA, OLoRA, CorDA, LoRA-GA and LoftQ take the adapter's start out of them: W ← W − s·B₀·A₀.
    """
    start = config.get("init_lora_weights")
    return isinstance(start, str) and start not in KEEP_BASE
