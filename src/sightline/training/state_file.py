"""Training state without pickle: any tree of plain values and tensors as one safetensors file.

Dictionaries, lists and tuples are described as JSON in the file's metadata; tensors and arrays stand beside it. Numbers
come back with the same bits. What is none of these is refused when it is saved.
"""

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch import Tensor

PLAIN = (bool, int, float, str, type(None))


def save_state(tree: Any, path: Path) -> None:
    """Write a tree of dictionaries, lists, tuples, plain values, arrays and tensors. Raises `TypeError` for others."""
    tensors: dict[str, Tensor] = {}
    described = _described(tree, tensors)
    save_file(tensors, path, metadata={"tree": json.dumps(described)})


def load_state(path: Path) -> Any:
    """The tree that `save_state` wrote, its tensors on the CPU."""
    with safe_open(path, framework="pt", device="cpu") as file:
        described = json.loads(file.metadata()["tree"])
        return _restored(described, file)


def _described(value: Any, tensors: dict[str, Tensor]) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, PLAIN):
        return value
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    if isinstance(value, Tensor):
        name = str(len(tensors))
        # a clone: two views of one storage cannot stand in a file
        tensors[name] = value.detach().to("cpu", copy=True, memory_format=torch.contiguous_format)
        return {"tensor": name}
    if isinstance(value, dict):
        return {"dict": [[_described(key, tensors), _described(item, tensors)] for key, item in value.items()]}
    if isinstance(value, list | tuple):
        return {type(value).__name__: [_described(item, tensors) for item in value]}
    raise TypeError(f"A {type(value).__name__} cannot be part of a saved state.")


def _restored(described: Any, file: Any) -> Any:
    if not isinstance(described, dict):
        return described
    match described:
        case {"tensor": name}:
            return file.get_tensor(name)
        case {"array": values, "dtype": dtype}:
            return np.array(values, dtype=dtype)
        case {"dict": items}:
            return {_restored(key, file): _restored(value, file) for key, value in items}
        case {"list": items}:
            return [_restored(item, file) for item in items]
        case {"tuple": items}:
            return tuple(_restored(item, file) for item in items)
    raise ValueError(f"Not a saved state: {sorted(described)}")


def to_disk(path: Path) -> None:
    """Wait until a file's or folder's content is on the disk, so that a power cut cannot undo it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
