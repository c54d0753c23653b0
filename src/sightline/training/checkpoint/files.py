"""Checkpoints on disk: safetensors without pickle, written aside, sealed by a manifest, then renamed into place.

A killed run leaves whole checkpoints only; a damaged one is found by its manifest and named.
"""

import json
import os
import shutil
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor
from transformers import TrainerCallback

from sightline.errors import RunFailed, UserError, shown
from sightline.files import RECIPE

MANIFEST = "checkpoint.json"
SCHEDULER = "scheduler.safetensors"
TRAINER_STATE = "trainer_state.json"
ALWAYS = (RECIPE, SCHEDULER, TRAINER_STATE, "process-0.safetensors")
"""Files that every checkpoint has, besides the weights and the optimizer's state."""
ASIDE = ".checkpoint.part"
TRASH = ".checkpoint.old"
CHUNK = 2**22
PLAIN = (bool, int, float, str, type(None))


class InCheckpoint(TrainerCallback):
    """A callback that adds files of its own to every checkpoint, on the main process."""

    def save_into(self, checkpoint: Path) -> None:
        """Write the callback's files into a checkpoint."""
        raise NotImplementedError


def seal(folder: Path) -> None:
    """List the files of a checkpoint's folder in its manifest, and wait until all of them are on the disk."""
    files = {}
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            to_disk(path)
            files[str(path.relative_to(folder))] = [path.stat().st_size, checksum(path)]
    manifest = folder / MANIFEST
    manifest.write_text(json.dumps({"files": files}, indent=1) + "\n", encoding="utf-8")
    to_disk(manifest)
    to_disk(folder)


def publish(aside: Path, final: Path, *, keep: int | None) -> None:
    """Give a sealed checkpoint its name, and remove the oldest ones beyond `keep`."""
    trash = final.parent / TRASH
    shutil.rmtree(trash, ignore_errors=True)
    trash.mkdir()
    if final.exists():
        os.rename(final, trash / final.name)
    os.rename(aside, final)
    to_disk(final.parent)
    if keep is not None:
        for old in checkpoints(final.parent)[:-keep]:
            # renamed first: a kill in the middle leaves no half of a checkpoint under its name
            os.rename(old, trash / old.name)
    shutil.rmtree(trash, ignore_errors=True)


def checkpoints(folder: Path) -> list[Path]:
    """All checkpoints of a run in the order of their steps, whole or damaged."""
    numbers = {path: path.name.removeprefix("checkpoint-") for path in folder.glob("checkpoint-*") if path.is_dir()}
    return sorted((path for path, number in numbers.items() if number.isdigit()), key=lambda path: int(numbers[path]))


def last_checkpoint(folder: Path) -> tuple[Path | None, list[str]]:
    """The newest whole checkpoint (None before the first), and a sentence for each newer one that is damaged.

    Raises `UserError` where there are checkpoints but none is whole: starting over would throw away what they hold.
    """
    damaged = []
    for path in reversed(checkpoints(folder)):
        wrong = damage(path)
        if wrong is None:
            return path, damaged
        damaged.append(f"{path} is damaged and left out: {wrong}.")
    if damaged:
        raise UserError(
            f"No checkpoint in {folder} is whole. {damaged[0]} Put back a copy of one, or move the checkpoint-* "
            "folders away to start at step 0."
        )
    return None, []


def named_checkpoint(path: Path) -> Path:
    """The checkpoint that a recipe names. Raises `UserError` where it is not a checkpoint, or damaged."""
    if not path.is_dir() or not (path / TRAINER_STATE).is_file():
        raise UserError(f"`resume: {path}` is not a checkpoint folder (no {TRAINER_STATE} in it).")
    wrong = damage(path)
    if wrong is not None:
        raise UserError(
            f"The checkpoint {path} is damaged: {wrong}. Resume from another one, or with `--resume` alone from the "
            "newest that is whole."
        )
    return path


def damage(folder: Path) -> str | None:
    """What is wrong with a checkpoint, as half a sentence; None where it is whole."""
    manifest = folder / MANIFEST
    if not manifest.is_file():
        return f"it has no {MANIFEST}, which is written last"
    files = _listed(manifest)
    if files is None:
        return f"its {MANIFEST} is no list of files with their sizes and checksums"
    absent = next((name for name in ALWAYS if name not in files), None)
    if absent is not None:
        return f"its {MANIFEST} does not list {absent}, which every checkpoint has"
    for name, (size, expected) in files.items():
        path = folder / name
        if not path.is_file():
            return f"its {name} is missing"
        if path.stat().st_size != size:
            return f"its {name} has {path.stat().st_size:,} bytes where {size:,} were written"
        if checksum(path) != expected:
            return f"its {name} does not hold what was written (checksum)"
    return None


def _listed(manifest: Path) -> dict[str, list[int]] | None:
    """Name → size and checksum of each file of a checkpoint; None where its manifest does not say so."""
    try:
        files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
        whole = all([type(one) for one in about] == [int, int] for about in files.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
    return files if whole else None


def trainer_state(checkpoint: Path) -> dict[str, Any]:
    """What a checkpoint's trainer_state.json holds. Raises `UserError` where that is no state of a run."""
    with explain_unreadable(checkpoint):
        state = json.loads((checkpoint / TRAINER_STATE).read_text(encoding="utf-8"))
        step, lines = state["global_step"], state["log_history"]
        if type(step) is not int or step < 0:
            raise ValueError(f"{TRAINER_STATE}: global_step is {step!r:.40} and not a number of steps")
        if type(lines) is not list or not all(type(line) is dict and "step" in line for line in lines):
            raise ValueError(f"{TRAINER_STATE}: log_history is no list of logged lines")
        return state


def step_of(checkpoint: Path) -> int:
    """The step after which a checkpoint was written. Raises `UserError` where it does not say."""
    return trainer_state(checkpoint)["global_step"]


@contextmanager
def explain_unreadable(checkpoint: Path) -> Iterator[None]:
    """Within, a file of a checkpoint that is not what it should be, though its checksum is right, is one paragraph."""
    try:
        yield
    except (UserError, RunFailed, torch.OutOfMemoryError):
        raise
    except (LookupError, TypeError, ValueError, AttributeError, RuntimeError, SafetensorError, OSError) as error:
        raise UserError(
            f"The checkpoint {checkpoint} cannot be read, although its files are those that its {MANIFEST} lists "
            f"({type(error).__name__}: {shown(error, 200)}). Resume from another one by its folder (`resume: FOLDER`), "
            "or move this one away and resume from the newest of the others."
        ) from error


def checksum(path: Path) -> int:
    """CRC-32 of a file."""
    value = 0
    with path.open("rb") as file:
        while chunk := file.read(CHUNK):
            value = zlib.crc32(chunk, value)
    return value


def how_to_continue(folder: Path) -> str:
    """A sentence on how a run that stopped goes on, by the checkpoints in its folder."""
    written = checkpoints(folder)
    if not written:
        return "No checkpoint was written yet: start again with --overwrite-output-dir."
    return f"Then go on from {written[-1].name} with --resume."


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
    """The tree as JSON, its tensors by the numbers under which they are put into `tensors`."""
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
    """The tree that `_described` made JSON of, its tensors read from an open file."""
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
    """Wait until a file's or folder's content is on the disk, so that a crash of the machine cannot undo it."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
