"""The library's Trainer with checkpoints that hold everything, written aside, without pickle.

A checkpoint holds what changed (the adapter alone where one is trained), optimizer, schedule, and for each process its
random states, figures not yet logged, and whatever a trainer adds in `process_state`. A run that goes on from it gives
the same bits as one that never stopped.
"""

import random
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import (
    PreTrainedModel,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sightline.errors import UserError
from sightline.training.checkpoint.files import ASIDE, InCheckpoint, load_state, publish, save_state, seal
from sightline.training.checkpoint.run_folder import explain_disk_errors

OPTIMIZER = "optimizer.safetensors"
SCHEDULER = "scheduler.safetensors"
LINES_KEPT = 100
"""Logged lines that stay in memory and go into every checkpoint."""


class CheckpointingTrainer(Trainer):
    """A Trainer that saves and resumes exactly; subclasses extend `process_state` and `load_process_state`."""

    _aside: Path | None = None
    _resumed: dict[str, Any] | None = None

    def process_state(self) -> dict[str, Any]:
        """What this process has to find again, besides model, optimizer and schedule."""
        return {
            "loss": float(self._tr_loss),
            "total_loss": self._total_loss_scalar,
            "logged_at": self._globalstep_last_logged,
        }

    def load_process_state(self, state: dict[str, Any]) -> None:
        """Put back what `process_state` gave."""
        self._tr_loss += state["loss"]
        self._total_loss_scalar = state["total_loss"]
        self._globalstep_last_logged = state["logged_at"]
        self._initial_global_step = 0  # the total is that of all steps, not of those since the checkpoint

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> Any:
        """As the library's; everything but the weights is put back when training begins."""
        if isinstance(resume_from_checkpoint, str):
            self._resumed = self._read_process_state(Path(resume_from_checkpoint))
            self.add_callback(_Restore(self))
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """As the library's, which would take a step more where the checkpoint is that of the last step."""
        if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
            self._load_rng_state(None)
            self.control.should_training_stop = True
            return
        super()._run_epoch(*args, **kwargs)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """The last line's average loss is over the whole run, not over the steps since it was resumed."""
        if "train_loss" in logs:
            logs = {**logs, "train_loss": self._total_loss_scalar / max(self.state.global_step, 1)}
        super().log(logs, start_time)
        fold(self.state.log_history)

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the present step."""
        assert self.model is not None
        self._save_checkpoint(self.model, trial=None)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        assert self.args.output_dir is not None
        folder = Path(self.args.output_dir)
        if self.is_world_process_zero():
            shutil.rmtree(folder / ASIDE, ignore_errors=True)
        self.accelerator.wait_for_everyone()
        self._aside = folder / ASIDE
        name = f"checkpoint-{self.state.global_step}"
        try:
            with explain_disk_errors(folder):
                super()._save_checkpoint(model, trial)
                self.accelerator.wait_for_everyone()
                if self.is_world_process_zero():
                    seal(self._aside / name)
                    publish(self._aside / name, folder / name, keep=self.args.save_total_limit)
        finally:
            if self.is_world_process_zero():
                shutil.rmtree(self._aside, ignore_errors=True)
            self._aside = None
        self.accelerator.wait_for_everyone()

    def _get_output_dir(self, trial: Any) -> str:
        return super()._get_output_dir(trial) if self._aside is None else str(self._aside)

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Whole models are read as `from_pretrained` reads them: names in the file are not always those of the modules.

        The library's own way skips every name that it does not know, in silence.
        """
        model = self.model if model is None else model
        whole = isinstance(model, PreTrainedModel) and not self.is_fsdp_enabled
        if whole:
            # float32 holds weights of both kinds, trained (float32) and frozen (bfloat16), without loss
            read = type(model).from_pretrained(resume_from_checkpoint, config=model.config, dtype=torch.float32)
            model.load_state_dict(read.state_dict(), strict=True)
        else:
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        assert self.optimizer is not None and self.lr_scheduler is not None
        if self.args.should_save:
            save_state(self.optimizer.state_dict(), Path(output_dir) / OPTIMIZER)
            save_state(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if checkpoint is None:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        self.optimizer.load_state_dict(load_state(Path(checkpoint) / OPTIMIZER))
        self.lr_scheduler.load_state_dict(load_state(Path(checkpoint) / SCHEDULER))

    def _save_rng_state(self, output_dir: str) -> None:
        """Everything that is this process's own."""
        folder = Path(output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        state = {"world": self.args.world_size, "random": random_states(), "state": self.process_state()}
        save_state(state, folder / process_file(self.args.process_index))
        if self.is_world_process_zero():
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, InCheckpoint):
                    callback.save_into(folder)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        if self._resumed is not None:
            set_random_states(self._resumed["random"])

    def _read_process_state(self, checkpoint: Path) -> dict[str, Any]:
        """Raises `UserError` where another number of processes wrote the checkpoint."""
        world = load_state(checkpoint / process_file(0))["world"]
        if world != self.args.world_size:
            raise UserError(
                f"{checkpoint} was written by {world} processes and cannot be resumed by {self.args.world_size}: each "
                "goes on where it stood in the data. Start as many processes again, or start a new run from the "
                "checkpoint's weights (`lora.adapter`, or `model.name`)."
            )
        return load_state(checkpoint / process_file(self.args.process_index))


class _Restore(TrainerCallback):
    """Puts a process's state back when the library has set up its own, and before the first step."""

    def __init__(self, trainer: CheckpointingTrainer) -> None:
        self.trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        resumed = self.trainer._resumed
        assert resumed is not None
        self.trainer.load_process_state(resumed["state"])


def fold(history: list[dict[str, Any]]) -> None:
    """Keep the last lines, and of those before the last figure of each name: memory and checkpoints stay flat.

    Every line is in metrics.jsonl.
    """
    while len(history) > LINES_KEPT:
        oldest, next_oldest = history.pop(0), history.pop(0)
        history.insert(0, {**oldest, **next_oldest})


def process_file(index: int) -> str:
    """The file of a checkpoint that holds one process's own state."""
    return f"process-{index}.safetensors"


def random_states() -> dict[str, Any]:
    """Of every generator that training draws from in this process."""
    states = {"python": random.getstate(), "numpy": np.random.get_state(), "torch": torch.get_rng_state()}
    if torch.cuda.is_available():
        states["cuda"] = torch.cuda.get_rng_state()
    return states


def set_random_states(states: dict[str, Any]) -> None:
    """Put back what `random_states` gave."""
    random.setstate(states["python"])
    np.random.set_state(states["numpy"])
    torch.set_rng_state(states["torch"])
    if "cuda" in states and torch.cuda.is_available():
        torch.cuda.set_rng_state(states["cuda"])
