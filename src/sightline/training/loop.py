"""The training loop, top to bottom: prepare or resume; then step after step, gradient, update, log, evaluate, save.

transformers' Trainer gives what surrounds the loop, by its public methods: accelerator, optimizers, schedules,
callbacks and trackers. Its own loop is replaced: for steps that can be left out, sharded weights and checkpoints that
resume exactly, a dozen of its private methods had to be overridden.
"""

import math
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim.lr_scheduler import ReduceLROnPlateau
from transformers import PrinterCallback, Trainer, TrainerState, TrainingArguments
from transformers.optimization import GreedyLR
from transformers.trainer_utils import align_special_tokens, speed_metrics

from sightline.errors import Terminated, UserError
from sightline.files import MODEL_CARD
from sightline.training.checkpoint.contents import (
    Part,
    load_weights,
    new_checkpoint,
    read_process,
    save_process,
)
from sightline.training.checkpoint.files import TRAINER_STATE, InCheckpoint, explain_unreadable, trainer_state
from sightline.training.checkpoint.run_folder import write_folder_into
from sightline.training.checkpoint.schedule import apply_settings, load_schedule, save_schedule, settings_of
from sightline.training.distributed.engine import Engine
from sightline.training.guard import Guard
from sightline.training.random_states import set_random_states
from sightline.training.step.metrics import read_numbers

METRIC_DRIVEN = (ReduceLROnPlateau, GreedyLR)
"""Schedules that step on the held-out loss."""
LINES_KEPT = 100
"""Logged lines that stay in memory and go into every checkpoint."""


class TrainingLoop(Trainer, ABC):
    """A Trainer with the loop below. Subclasses define a step, and add `parts` that a checkpoint has to hold.

    engine: made from the recipe. guard: what to do when numbers go wrong. frozen_copy: the reference, where it is a
    model of its own. final_step: after which the trained model was written into the run's folder.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        engine: Engine,
        guard: Guard,
        frozen_copy: nn.Module | None,
        **options: Any,
    ) -> None:
        with engine.selected(args):
            super().__init__(model=model, args=args, **options)
        engine.join(self.accelerator, args)
        self.remove_callback(PrinterCallback)
        self.engine, self.guard, self.frozen_copy = engine, guard, frozen_copy
        self.loss = RunningLoss(args.device)
        self.final_step: int | None = None
        self.parts: dict[str, Part] = {"loss": self.loss, "guard": guard}

    # what a subclass defines

    @abstractmethod
    def training_step(self, model: nn.Module, inputs: Any, num_items_in_batch: Any = None) -> Tensor:
        """Leave the gradient of one optimizer step in the weights; this process's part of its loss, detached."""

    @abstractmethod
    def batches(self, number: int, first: int) -> Iterable[Any]:
        """What `training_step` gets in each step of pass `number` over the data, from its step `first` on."""

    @abstractmethod
    def num_steps_per_pass(self) -> int | None:
        """Optimizer steps in a pass over the data; None where rows are not counted."""

    @abstractmethod
    def leave_out_step(self, norm: Tensor) -> None:
        """Take back a step whose loss or gradient (of this norm) is NaN or Inf. Raises `RunFailed` where it may not."""

    def epoch_after(self, number: int, num_steps: int) -> float:
        """Passes over the data after `num_steps` steps of pass `number`."""
        return number + num_steps / self.steps_per_pass

    # the loop

    def train(self, resume_from_checkpoint: str | None = None) -> None:
        """Train to the last step, from the first or from a checkpoint's.

        Raises `RunFailed`, or `Terminated` after SIGTERM, with a checkpoint of what is done.
        """
        checkpoint = Path(resume_from_checkpoint) if resume_from_checkpoint is not None else None
        with self.guard.listening(), self.engine.stopping_all():
            self._count_steps(checkpoint)
            self._prepare_model(checkpoint)
            resumed = None if checkpoint is None else self._resume(checkpoint)
            started, first_step = time.time(), self.state.global_step
            self.control = self.callback_handler.on_train_begin(self.args, self.state, self.control)
            if self.args.eval_on_start:
                self.evaluate_with_all_weights()
            if resumed is not None:
                set_random_states(resumed["random"])
            first_pass, first = divmod(first_step, self.steps_per_pass)
            for number in range(first_pass, self.state.num_train_epochs):
                if self.control.should_training_stop or self.state.global_step >= self.state.max_steps:
                    break
                self._pass(number, first)
                first = 0
            if self.final_step != self.state.global_step and self.guard.stopped_by is None:
                self.save_final_model()
            self._log_end(started, first_step)
            self.control = self.callback_handler.on_train_end(self.args, self.state, self.control)
        if self.guard.stopped_by is not None:
            raise self.guard.stopped_by

    def _count_steps(self, checkpoint: Path | None) -> None:
        """The loader of the steps, and the state that callbacks see: of the first step, or of a checkpoint."""
        self.train_loader = self.callback_handler.train_dataloader = self.get_train_dataloader()
        per_pass, max_steps = self.num_steps_per_pass(), self.args.max_steps
        if max_steps <= 0:
            assert per_pass is not None, "rows that are not counted need max_steps"
            max_steps = math.ceil(self.args.num_train_epochs * per_pass)
        self.steps_per_pass = per_pass or max_steps
        if checkpoint is not None:
            with explain_unreadable(checkpoint):
                self.state = TrainerState(**trainer_state(checkpoint))
            if self.state.global_step > max_steps:
                raise UserError(
                    f"The run is to end after step {max_steps}, but {checkpoint} is {self.state.global_step} steps in. "
                    "Give more (`max_steps`, or `num_train_epochs`), or resume from an earlier checkpoint by its "
                    "folder (`resume: FOLDER`)."
                )
        self.state.max_steps = max_steps
        self.state.num_train_epochs = math.ceil(max_steps / per_pass) if per_pass is not None else sys.maxsize
        self.state.train_batch_size = self.args.per_device_train_batch_size
        self.state.is_local_process_zero = self.is_local_process_zero()
        self.state.is_world_process_zero = self.is_world_process_zero()
        self.state.compute_steps(self.args, max_steps)

    def _prepare_model(self, checkpoint: Path | None) -> None:
        """Model, optimizer and schedule as the engine wants them, with a checkpoint's weights if there is one."""
        model: Any = self.model
        align_special_tokens(model, self.processing_class)
        if checkpoint is not None:
            with explain_unreadable(checkpoint):
                load_weights(model, checkpoint)
        self.model_wrapped, self.optimizer = self.engine.prepare(model, self.create_optimizer(), self.frozen_copy)
        self.create_scheduler(num_training_steps=self.state.max_steps)
        handler = self.callback_handler
        handler.model, handler.optimizer, handler.lr_scheduler = model, self.optimizer, self.lr_scheduler
        self.model_wrapped.zero_grad()

    def _resume(self, checkpoint: Path) -> dict[str, Any]:
        """Put back everything but the weights; what this process saved, for its random states come last.

        The optimizer's settings and the schedule are those of the recipe as it is now.
        """
        assert self.optimizer is not None and self.lr_scheduler is not None
        asked = settings_of(self.optimizer)
        with explain_unreadable(checkpoint):
            saved = read_process(checkpoint, **self._of_process())
            self.engine.load_optimizer(self.optimizer, checkpoint)
            load_schedule(self.lr_scheduler, checkpoint, step=self.state.global_step)
            for name, part in self.parts.items():
                part.load_state(saved["state"][name])
        apply_settings(asked, self.optimizer, self.lr_scheduler)
        return saved

    def _pass(self, number: int, first: int) -> None:
        """The steps of one pass over the data, from step `first` of it on."""
        self.control = self.callback_handler.on_epoch_begin(self.args, self.state, self.control)
        figures: dict[str, float] = {}
        for index, inputs in enumerate(self.batches(number, first), start=first):
            figures = self._step(inputs, epoch=self.epoch_after(number, index + 1))
            self._log_evaluate_save(figures)
            if self.control.should_epoch_stop or self.control.should_training_stop:
                break
        self.control = self.callback_handler.on_epoch_end(self.args, self.state, self.control)
        self._log_evaluate_save(figures)

    def _step(self, inputs: Any, *, epoch: float) -> dict[str, float]:
        """One optimizer step; its gradient's norm and learning rate. epoch: passes over the data after it."""
        model, optimizer, scheduler = self.model_wrapped, self.optimizer, self.lr_scheduler
        assert isinstance(model, nn.Module) and optimizer is not None and scheduler is not None
        self.control = self.callback_handler.on_step_begin(self.args, self.state, self.control)
        self.loss.add(self.training_step(model, inputs))
        norm = self.engine.clip_gradients(self.args.max_grad_norm)
        loss, size = read_numbers([self.loss.since_log, norm])  # the step's only wait for the device
        self.loss.known = loss
        if self.engine.any_process(not (math.isfinite(loss) and math.isfinite(size))):
            self.leave_out_step(norm)
            self.loss.known, size = float(self.loss.since_log), 0.0
        self.control = self.callback_handler.on_pre_optimizer_step(self.args, self.state, self.control)
        optimizer.step()  # passes over weights without gradient; DeepSpeed took it in `clip_gradients`
        self.control = self.callback_handler.on_optimizer_step(self.args, self.state, self.control)
        learning_rate = float(optimizer.param_groups[0]["lr"])
        if not isinstance(scheduler, METRIC_DRIVEN):
            scheduler.step()
        model.zero_grad()
        self.state.global_step += 1
        self.state.epoch = epoch
        if self.state.global_step == self.state.max_steps:
            self.save_final_model()  # before callbacks, evaluation and logs, which may fail
        self.control = self.callback_handler.on_step_end(self.args, self.state, self.control)
        if self.state.global_step == self.state.max_steps or self.control.should_training_stop:
            self.control.should_log = True  # a run's end has a loss
        if self.engine.any_process(self.guard.is_terminated):
            self.stop_after_step(Terminated())
        return {"grad_norm": size, "learning_rate": learning_rate}

    def _log_evaluate_save(self, figures: dict[str, float]) -> None:
        """What callbacks want after a step. figures: of this step."""
        if self.control.should_log and self.state.global_step > self.loss.logged_at:
            average = self.loss.known
            if self.accelerator.num_processes > 1:  # each has its part of the loss
                since_log = self.accelerator.gather(self.loss.since_log)
                assert isinstance(since_log, Tensor)
                average = float(since_log.mean())
            self.log({"loss": self.loss.take(average, self.state.global_step), **figures})
        if self.control.should_evaluate:
            metrics = self.evaluate_with_all_weights()
            if isinstance(self.lr_scheduler, METRIC_DRIVEN):
                self.lr_scheduler.step(metrics["eval_loss"])
        if self.control.should_save:
            self.save_checkpoint()

    def _log_end(self, started: float, first_step: int) -> None:
        """The last line: how fast the steps of this process were, and the average loss of all steps of the run."""
        steps = self.state.global_step - first_step
        rows = steps * self.args.per_device_train_batch_size * self.args.world_size
        speed = speed_metrics("train", started, num_samples=rows, num_steps=steps)
        total = self.loss.total + float(self.loss.since_log)
        self.log({**speed, "train_loss": total / max(self.state.global_step, 1)})

    def evaluate_with_all_weights(self) -> dict[str, float]:
        """Evaluate where every process holds all weights: held-out rows need not come out even."""
        with self.engine.gathered():
            return self.evaluate()

    def stop_after_step(self, reason: BaseException) -> None:
        """End training after the present step, with a checkpoint; `train` then raises the reason."""
        self.guard.stopped_by = reason
        self.control.should_save = self.control.should_training_stop = True

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Give a line of figures to callbacks and trackers."""
        super().log(logs, start_time)
        fold(self.state.log_history)

    # what it writes

    def save_checkpoint(self) -> None:
        """Write a checkpoint of the present step. Every process calls it."""
        optimizer, scheduler = self.optimizer, self.lr_scheduler
        assert self.args.output_dir is not None and optimizer is not None and scheduler is not None
        with new_checkpoint(
            Path(self.args.output_dir),
            self.state.global_step,
            keep=self.args.save_total_limit,
            is_main=self.is_world_process_zero(),
            wait=self.accelerator.wait_for_everyone,
        ) as checkpoint:
            self.save_model(str(checkpoint))
            self.engine.save_optimizer(optimizer, checkpoint)
            save_process(checkpoint, self.parts, **self._of_process())
            if self.is_world_process_zero():
                save_schedule(scheduler, checkpoint)
                self.state.save_to_json(str(checkpoint / TRAINER_STATE))
                for callback in self.callback_handler.callbacks:
                    if isinstance(callback, InCheckpoint):
                        callback.save_into(checkpoint)
        self.control = self.callback_handler.on_save(self.args, self.state, self.control)

    def _of_process(self) -> dict[str, int]:
        return {"step": self.state.global_step, "index": self.args.process_index, "world": self.args.world_size}

    def save_final_model(self) -> None:
        """Write the model into the run's folder, whole or not at all. Every process calls it."""
        folder = Path(str(self.args.output_dir))
        if self.is_world_process_zero():
            write_folder_into(folder, lambda aside: self.save_model(str(aside)))
        else:
            self.save_model(str(folder))  # nothing is written; sharded weights are gathered from all processes
        self.accelerator.wait_for_everyone()
        self.final_step = self.state.global_step

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """Model or adapter as safetensors, and the processor. Every process calls it."""
        model: Any = self.model
        folder = output_dir if output_dir is not None else self.args.output_dir
        weights = self.engine.weights_to_save(model, keep=self.args.should_save)
        assert folder is not None
        if self.args.should_save:
            blank = Path(folder) / MODEL_CARD
            is_new = not blank.exists()
            model.save_pretrained(folder, state_dict=weights)
            if is_new:
                blank.unlink(missing_ok=True)  # peft's template of a card, which says nothing of the run
            self.processing_class.save_pretrained(folder)  # pyright: ignore[reportOptionalMemberAccess]


class RunningLoss:
    """The loss since the last log, and of the whole run: this process's part.

    since_log: sum over steps; known: what it was when it was last read from the device. total: of what was logged.
    logged_at: the step of the last log.
    """

    def __init__(self, device: torch.device) -> None:
        self.since_log = torch.zeros((), device=device)
        self.known = 0.0
        self.total = 0.0
        self.logged_at = 0

    def add(self, loss: Tensor) -> None:
        """Take in a step's."""
        self.since_log += loss

    def take(self, average: float, step: int) -> float:
        """Start anew at this step; the loss a step since the last log. average: of `since_log` over processes."""
        steps = step - self.logged_at
        self.since_log.zero_()
        self.total += average
        self.logged_at = step
        return average / steps

    def state(self) -> dict[str, Any]:
        """What `load_state` takes."""
        return {"since_log": float(self.since_log), "total": self.total, "logged_at": self.logged_at}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.since_log.fill_(state["since_log"])
        self.total, self.logged_at = state["total"], state["logged_at"]


def fold(history: list[dict[str, Any]]) -> None:
    """Keep the last lines, and of those before the last figure of each name: memory and checkpoints stay flat.

    Every line is in metrics.jsonl.
    """
    while len(history) > LINES_KEPT:
        oldest, next_oldest = history.pop(0), history.pop(0)
        history.insert(0, {**oldest, **next_oldest})
