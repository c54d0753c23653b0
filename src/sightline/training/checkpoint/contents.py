"""What a checkpoint holds: weights, optimizer, schedule, and for each process what it has to find again.

Weights are those that change: the adapter alone where one is trained. Each process saves its random states and the
`parts` of its trainer: figures not yet logged, the place in the data, and so on. A run that goes on from a checkpoint
gives the same bits as one that never stopped.
"""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import torch
from peft import PeftModel
from transformers import PreTrainedModel

from sightline.errors import UserError
from sightline.models.adapter import check_keys
from sightline.training.checkpoint.files import ASIDE, load_state, publish, save_state, seal
from sightline.training.checkpoint.run_folder import explain_disk_errors
from sightline.training.random_states import random_states


@runtime_checkable
class Part(Protocol):
    """Something that a process has to find again when its run is resumed."""

    def state(self) -> Any:
        """What `load_state` takes: a tree of plain values and tensors."""
        ...

    def load_state(self, state: Any, /) -> None:
        """Put back what `state` gave."""
        ...


@dataclass(frozen=True)
class PartOf:
    """A `Part` made of two functions, for what has no such methods of its own."""

    state: Callable[[], Any]
    load_state: Callable[[Any], None]


@contextmanager
def new_checkpoint(
    folder: Path, step: int, *, keep: int | None, is_main: bool, wait: Callable[[], None]
) -> Iterator[Path]:
    """A folder to fill that becomes `checkpoint-STEP` of a run when it is whole. Every process enters.

    keep: how many checkpoints stay; None for all. wait: until all processes are here.
    """
    aside = folder / ASIDE
    if is_main:
        shutil.rmtree(aside, ignore_errors=True)
    wait()
    filled = aside / f"checkpoint-{step}"
    try:
        with explain_disk_errors(folder):
            filled.mkdir(parents=True, exist_ok=True)
            yield filled
            wait()
            if is_main:
                seal(filled)
                publish(filled, folder / filled.name, keep=keep)
    finally:
        if is_main:
            shutil.rmtree(aside, ignore_errors=True)
    wait()


def load_weights(model: PreTrainedModel | PeftModel, checkpoint: Path) -> None:
    """Give a model, not yet prepared, the weights of a checkpoint, or its adapter those of the checkpoint's."""
    if isinstance(model, PeftModel):
        check_keys(model.load_adapter(str(checkpoint), model.active_adapters[0], is_trainable=True), checkpoint)
        return
    # names in the file are not always those of the modules; `from_pretrained` knows both. float32 holds weights of
    # both kinds, trained (float32) and frozen (bfloat16), without loss
    read = type(model).from_pretrained(checkpoint, config=model.config, dtype=torch.float32)
    model.load_state_dict(read.state_dict(), strict=True)


def save_process(checkpoint: Path, parts: Mapping[str, Part], *, step: int, index: int, world: int) -> None:
    """Write what process `index` of `world` has to find again."""
    state = {name: part.state() for name, part in parts.items()}
    written = {"world": world, "step": step, "random": random_states(), "state": state}
    save_state(written, checkpoint / process_file(index))


def read_process(checkpoint: Path, *, step: int, index: int, world: int) -> dict[str, Any]:
    """What `save_process` wrote. Raises `UserError` where another number of processes wrote the checkpoint."""
    written = load_state(checkpoint / process_file(0))["world"]
    if written != world:
        raise UserError(
            f"{checkpoint} was written by {written} processes and cannot be resumed by {world}: each goes on where it "
            "stood in the data. Start as many processes again, or start a new run from the checkpoint's weights "
            "(`lora.adapter`, or `model.name`)."
        )
    saved = load_state(checkpoint / process_file(index))
    if saved["step"] != step:
        raise ValueError(f"{process_file(index)} is of step {saved['step']}, the checkpoint of step {step}")
    return saved


def process_file(index: int) -> str:
    """The file of a checkpoint that holds one process's own state."""
    return f"process-{index}.safetensors"
