"""The trainer of objectives over groups: one of its loader's batches is this process's share of an optimizer step.

The loop is in `loop.py`; `step/step.py` cuts a step into micro-batches.
"""

import time
from collections.abc import Callable, Iterable, Sized
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate.utils import AutocastKwargs
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import TrainingArguments

from sightline.config.guard import GuardConfig
from sightline.data.stream.loader_workers import FinishesStepOnTermination
from sightline.data.stream.stream import GroupStream
from sightline.errors import DataError
from sightline.forward.reference import AnyReference, Reference
from sightline.models.families.find import Family
from sightline.objectives.objective import Objective, State
from sightline.objectives.roles import MISMATCHED
from sightline.training.checkpoint.contents import PartOf
from sightline.training.checkpoint.files import how_to_continue
from sightline.training.datasets import Costs, RowsSeen, StepBatches, StepLoader, collate, row_costs
from sightline.training.distributed.engine import Engine
from sightline.training.guard import Guard
from sightline.training.layout_choice import typical_group
from sightline.training.loop import TrainingLoop
from sightline.training.same_rows import SameRows
from sightline.training.step.auxiliary import with_auxiliary, with_corrected
from sightline.training.step.evaluation import HeldOut
from sightline.training.step.memory import Memory
from sightline.training.step.metrics import Means, averages, device_memory
from sightline.training.step.micro_batch import DummyGroup, StepSettings
from sightline.training.step.nonfinite import FOLDER, is_finite, offenders, write_offenders
from sightline.training.step.step import train_step
from sightline.types import Group

NUM_CANDIDATES = 16
"""Rows looked at for a mismatched completion where a step has a single prompt."""


class StepStart(NamedTuple):
    """What a step that is left out must not change, as it was before. groups: those of the step."""

    groups: list[Group]
    loss: Tensor
    mark: dict[str, int]
    state: State


class AlignmentTrainer(TrainingLoop):
    """Trains a policy with an objective over groups.

    groups_per_forward: how many groups (of the step's longest) a forward holds.
    shuffle: draw rows at random. guard: what to do when numbers go wrong. report: shows the user a sentence.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
        engine: Engine,
        objective: Objective,
        reference: AnyReference | None,
        family: Family,
        layout: str,
        groups_per_forward: int,
        shuffle: bool,
        train_dataset: Dataset,
        eval_dataset: Dataset | None,
        processor: Any,
        callbacks: list,
        guard: GuardConfig,
        report: Callable[[str], None] = print,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            engine=engine,
            guard=Guard(guard, online=objective.num_responses == 0, report=self._report),
            frozen_copy=frozen_copy_of(reference),
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collate,
            processing_class=processor,
            callbacks=callbacks,
        )
        # a cache would keep trained weights in bfloat16, too, until the end of a forward that keeps no layer
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
        self.objective, self.objective_state = objective, objective.initial_state()
        self.reference, self.processor, self.shuffle, self.report = reference, processor, shuffle, report
        self.group_stream = train_dataset if isinstance(train_dataset, GroupStream) else None
        self.means, self.rows_seen = Means(), RowsSeen()
        self.dummy_group = DummyGroup(family, lambda: some_group(train_dataset, family))
        self.settings = self._step_settings(family=family, layout=layout, groups_per_forward=groups_per_forward)
        self.parts |= {
            "objective": PartOf(lambda: self.objective_state, self.objective_state.update),
            "means": self.means,
            "rows": self.rows_seen,
            "memory": self.settings.memory,
            "data": SameRows(self.rows_trained_on) if self.group_stream is None else self._place_in(self.group_stream),
        }

    def _step_settings(self, **given: Any) -> StepSettings:
        """How steps are computed here: by this engine, as this process of so many."""
        engine = self.engine
        return StepSettings(
            **given,
            device=self.accelerator.device,
            autocast=engine.autocast,
            reference_autocast=lambda: self.accelerator.autocast(),
            no_sync=engine.no_sync,
            average_gradients=engine.average_gradients,
            memory=Memory(sharded=engine.sharded, any_process=engine.any_process, gather=engine.gather),
            sum_over_processes=engine.sum_over_processes,
            gather=engine.gather,
            num_processes=self.accelerator.num_processes,
            process_index=self.accelerator.process_index,
            dummy_group=self.dummy_group if engine.sharded else None,
        )

    def _place_in(self, stream: GroupStream) -> PartOf:
        """Where a stream stands after the present step."""
        return PartOf(
            lambda: stream.state(self.state.global_step), lambda state: stream.load(state, self.state.global_step)
        )

    # the rows of a step

    def get_train_dataloader(self) -> DataLoader:
        """Batches of whole steps: this process's share of each."""
        options = {
            "persistent_workers": self.args.dataloader_persistent_workers,
            "pin_memory": self.args.dataloader_pin_memory,
        }
        if self.group_stream is not None:
            return self._stream_loader(self.group_stream, **options)
        dataset, size = self.train_dataset, self.args.per_device_train_batch_size
        assert isinstance(dataset, Dataset)
        # neighbors in a step exchange mismatched completions (KTO), so their order is kept
        costs = None if MISMATCHED in self.objective.roles else row_costs(dataset)
        return self._loader(dataset, size, seed=self.args.seed if self.shuffle else None, costs=costs, **options)

    def num_steps_per_pass(self) -> int | None:
        """Optimizer steps in a pass over the data; None where rows are streamed."""
        return None if self.group_stream is not None else len(self.train_loader)

    def batches(self, number: int, first: int) -> Iterable[dict[str, list]]:
        """This process's rows of each step of pass `number`, from step `first` on; a stream goes on where it was."""
        if isinstance(self.train_loader, StepLoader):
            self.train_loader.batches.start_pass(number, first)
        return self.train_loader

    def epoch_after(self, number: int, num_steps: int) -> float:
        """Passes over the data after `num_steps` steps of pass `number`; a stream counts its own."""
        if self.group_stream is not None:
            return float(self.group_stream.num_passes(self.state.global_step + 1))
        return super().epoch_after(number, num_steps)

    def _loader(
        self, dataset: Dataset, size: int, *, seed: int | None, costs: Costs | None = None, **options: Any
    ) -> StepLoader:
        assert isinstance(dataset, Sized)
        world, rank = self.settings.num_processes, self.settings.process_index
        batches = StepBatches(len(dataset), size * world, seed=seed, rank=rank, world=world, costs=costs)
        return StepLoader(dataset, batches, collate_fn=collate, num_workers=self.args.dataloader_num_workers, **options)

    def _stream_loader(self, stream: GroupStream, **options: Any) -> DataLoader:
        """This process's share of every step; a stream shares itself among processes."""
        loader = stream.loader(
            self.args.per_device_train_batch_size,
            rank=self.settings.process_index,
            num_ranks=self.settings.num_processes,
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            **options,
        )
        loader.generator = torch.Generator().manual_seed(self.args.seed)
        loader.worker_init_fn = FinishesStepOnTermination(loader.worker_init_fn)
        return loader

    # a step

    def training_step(
        self, model: nn.Module, inputs: dict[str, list], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """Leave the gradient of one optimizer step in the weights; this process's part of its loss, detached."""
        self.rows_seen.see(inputs)
        groups = self._with_auxiliary(inputs["groups"], self._other_than(inputs["groups"]))
        if not self.engine.any_process(len(groups) > 0):
            raise DataError(
                f"All rows of step {self.state.global_step + 1} are bad: nothing is left to train on. Run `sightline "
                "data check`, or give a larger `per_device_train_batch_size`."
            )
        return self.gradient_of(model, groups)

    def gradient_of(self, model: nn.Module, groups: list[Group]) -> Tensor:
        """Leave the gradient of a step of these groups in the weights; this process's part of its loss, detached."""
        model.train()
        self.rows_seen.num_tokens += sum(group.num_tokens for group in groups)
        self.step_start = StepStart(groups, self.loss.since_log.clone(), self.means.mark(), dict(self.objective_state))
        if self.engine.sharded:
            self.dummy_group.see(groups)
        return train_step(
            model,
            groups,
            self.objective,
            self.reference,
            self.settings,
            state=self.objective_state,
            backward=self.engine.backward,
            means=self.means,
        )

    def try_step(self, groups: list[Group], settings: StepSettings) -> None:
        """Forward and backward of a step that is not taken: nothing of it stays, its gradient is zero times its own."""
        model = self.model_wrapped
        assert model is not None
        model.train()
        train_step(
            model,
            self._with_auxiliary(groups, self._other_than(groups)),
            self.objective,
            self.reference,
            settings,
            state=dict(self.objective_state),
            backward=lambda loss: self.engine.backward(0.0 * loss),
            means=Means(),
        )
        self.engine.discard_gradients()

    def leave_out_step(self, norm: Tensor) -> None:
        """Take back a step whose loss or gradient (of this norm) is NaN or Inf, and write the rows that did it.

        Raises `RunFailed` where the recipe leaves out no more steps.
        """
        model, start, folder = self.model, self.step_start, Path(str(self.args.output_dir))
        assert model is not None
        step, found = self.state.global_step + 1, start.groups
        if found and not self.engine.sharded:
            settings = self.settings.of_one_process()
            found = offenders(model, found, self.objective, self.reference, settings, start.state)
        path = folder / FOLDER / f"step-{step}.parquet"
        rows = write_offenders(path, self.rows_trained_on(), start.groups, found, self.settings)
        is_taken = self.engine.steps_while_clipping and is_finite(norm)
        self.guard.leave_out(step, rows, is_taken=is_taken, how_to_continue=how_to_continue(folder))
        self.loss.since_log.copy_(start.loss)
        self.means.forget_since(start.mark)
        self.objective_state.update(start.state)
        for parameter in model.parameters():
            parameter.grad = None

    def rows_trained_on(self) -> Any:
        """The data set that groups come from."""
        return self.train_dataset

    def _with_auxiliary(self, groups: list[Group], other: Group | None = None) -> list[Group]:
        groups = with_corrected(groups, self.objective.corrected_weight)
        index = self.accelerator.process_index
        return with_auxiliary(groups, self.objective.roles, gather=self.engine.gather, process_index=index, other=other)

    def _other_than(self, groups: list[Group]) -> Group | None:
        """The first other row, for a mismatched completion in a step of a single prompt (the last of an epoch)."""
        dataset = self.train_dataset
        if len(groups) != 1 or MISMATCHED not in self.objective.roles or not isinstance(dataset, Sized):
            return None
        first = (dataset[index] for index in range(min(NUM_CANDIDATES, len(dataset))))
        return next((item for item in first if isinstance(item, Group) and item.id != groups[0].id), None)

    # what it reports

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """What `held_out_figures` gives, logged as `eval_…` with the seconds that it took."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        assert isinstance(dataset, Dataset)
        started = time.time()
        figures = self.held_out_figures(dataset)
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics[f"{metric_key_prefix}_runtime"] = time.time() - started
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def held_out_figures(self, dataset: Dataset) -> dict[str, float]:
        """Loss and metrics over held-out rows: sums over all of them, divided once."""
        model = self.model_wrapped
        assert model is not None
        model.eval()
        held_out = HeldOut(self.objective, self.settings, self.objective_state)
        other: Group | None = None
        for inputs in self._eval_batches(dataset):
            self.rows_seen.see(inputs)
            groups = self._with_auxiliary(inputs["groups"], other)
            other = self._last_of(inputs["groups"]) or other
            if groups:
                held_out.add(model, groups, self.reference)
        return held_out.figures()

    def _last_of(self, groups: list[Group]) -> Group | None:
        """The last group of a batch over all processes, without its images; None without mismatched completions."""
        if MISMATCHED not in self.objective.roles:
            return None
        last = self.engine.gather([replace(group, model_inputs={}) for group in groups[-1:]])
        return next((group for of_process in reversed(last) for group in of_process), None)

    def _eval_batches(self, dataset: Dataset) -> DataLoader:
        size = self.args.per_device_eval_batch_size
        # neighbors exchange mismatched completions: an odd batch would part two of them
        return self._loader(dataset, size + size % 2 if MISMATCHED in self.objective.roles else size, seed=None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Training logs carry the averages since the last log, by TRL's names, and peak memory."""
        self.rows_seen.gather(self.engine.gather)
        if "loss" in logs:
            averaged = averages(self.engine.gather(self.means.totals()))
            if len(self.objective.weights) == 1:
                averaged = {name: value for name, value in averaged.items() if not name.startswith("loss/")}
            num_tokens = sum(self.engine.gather(self.rows_seen.num_tokens))
            logs = {**logs, **averaged, "num_tokens": num_tokens, **device_memory(), **self.rows_seen.figures()}
            if self.settings.memory.limit is not None:
                logs["token_limit"] = self.settings.memory.limit
            self.means.clear()
            reason = self.guard.watch(logs, self.state.global_step)
            if reason is not None:
                self.stop_after_step(reason)
        super().log(logs, start_time)

    def _report(self, sentence: str) -> None:
        """Show the user a sentence, once for all processes."""
        if self.is_world_process_zero():
            self.report(sentence)

    def close(self) -> None:
        """Give back what training held besides the model."""


def frozen_copy_of(reference: AnyReference | None) -> nn.Module | None:
    """The model that a policy is compared with, where it is one of its own."""
    return reference.model if isinstance(reference, Reference) and reference.mode == "frozen-copy" else None


def some_group(dataset: Dataset, family: Family) -> Group:
    """Any group of the data, one with an image if there is one among the first."""
    group = typical_group(dataset, family)
    assert group is not None, "the data has a row that is not bad"
    return group
