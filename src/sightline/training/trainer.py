"""A thin `transformers.Trainer`: the library's loop, optimizer, schedule, checkpoints and trackers around our step.

One batch of its loader is the list of groups of this process's whole optimizer step; `training.step.step` cuts it up.
"""

import time
from collections.abc import Callable, Sized
from dataclasses import replace
from typing import Any

import torch
from accelerate.utils import AutocastKwargs, DistributedType, gather_object
from peft import PeftModel
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset
from transformers import (
    PreTrainedModel,
    PrinterCallback,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)

from sightline.config.guard import GuardConfig
from sightline.data.stream.loader_workers import OutlivesTermination
from sightline.data.stream.stream import GroupStream
from sightline.errors import DataError
from sightline.forward.reference import AnyReference
from sightline.models.families.find import Family
from sightline.objectives.objective import Objective
from sightline.objectives.roles import MISMATCHED
from sightline.training.datasets import Costs, StepBatches, StepLoader, TruncatedRows, collate, row_costs
from sightline.training.distributed.sharded import average_gradients
from sightline.training.guard import GuardedTrainer
from sightline.training.layout_choice import typical_group
from sightline.training.step.auxiliary import with_auxiliary, with_corrected
from sightline.training.step.evaluation import HeldOut
from sightline.training.step.memory import Memory
from sightline.training.step.metrics import Means, averages, device_memory
from sightline.training.step.micro_batch import Spare, StepSettings
from sightline.training.step.step import train_step
from sightline.types import BadRow, Group


class StreamEpochs(TrainerCallback):
    """Sets the epoch after each step."""

    def __init__(self, stream: GroupStream) -> None:
        self.stream = stream

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        state.epoch = float(self.stream.num_passes(state.global_step))


class LogsLastStep(TrainerCallback):
    """Logs the last step, also where `logging_steps` does not fall on it: a run's end has a loss."""

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any) -> None:
        if state.global_step == state.max_steps or control.should_training_stop:
            control.should_log = True


NUM_LENDERS = 16
"""Rows looked at for another prompt's answer where a step has a single one."""


def some_group(dataset: Dataset, family: Family) -> Group:
    """Any group of the data, one with a picture if there is one among the first."""
    group = typical_group(dataset, family)
    assert group is not None, "the data has a row that is not bad"
    return group


class AlignmentTrainer(GuardedTrainer):
    """Trains a policy with an objective over groups.

    groups_per_forward: how many groups (of the step's longest) a forward holds.
    shuffle: draw rows at random. guard: what to do when numbers go wrong. say: shows the user a sentence.
    """

    def __init__(
        self,
        *,
        model: nn.Module,
        args: TrainingArguments,
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
        say: Callable[[str], None] = print,
    ) -> None:
        super().__init__(
            model=model,
            args=args,
            train_dataset=train_dataset,
            eval_dataset=eval_dataset,
            data_collator=collate,
            processing_class=processor,
            callbacks=callbacks,
        )
        self.remove_callback(PrinterCallback)
        self.add_callback(LogsLastStep())
        # a cache would keep trained weights in bfloat16, too, until the end of a forward that keeps no layer
        self.accelerator.autocast_handler = AutocastKwargs(cache_enabled=False)
        self.objective, self.objective_state = objective, objective.initial_state()
        self.reference, self.processor, self.shuffle = reference, processor, shuffle
        self.group_stream = train_dataset if isinstance(train_dataset, GroupStream) else None
        if self.group_stream is not None:
            self.args.ignore_data_skip = True  # the stream itself goes on where it was
            self.add_callback(StreamEpochs(self.group_stream))
        self.means = Means()
        self.bad_rows: dict[str, str] = {}
        self.truncated = TruncatedRows()
        self.num_tokens = 0
        self.settings = StepSettings(
            family=family,
            layout=layout,
            groups_per_forward=groups_per_forward,
            device=self.accelerator.device,
            autocast=self._autocast,
            reference_autocast=lambda: self.accelerator.autocast(),
            no_sync=self._no_sync,
            average_gradients=average_gradients if self._is_ddp else None,
            memory=Memory(sharded=self._is_sharded, any_process=self._any_process, gather=self._gather),
            sum_over_processes=self._sum_over_processes,
            gather=self._gather,
            num_processes=self.accelerator.num_processes,
            process_index=self.accelerator.process_index,
        )
        if self._is_sharded:
            self.spare = Spare(family, lambda: some_group(train_dataset, family))
            self.settings = replace(self.settings, spare=self.spare)
        self.start_guarding(guard, say)

    def get_train_dataloader(self) -> DataLoader:
        """Batches of whole steps: this process's share of each."""
        if self.group_stream is not None:
            loader = self._stream_batches(self.group_stream)
            loader.generator = torch.Generator().manual_seed(self.args.seed)
            loader.worker_init_fn = OutlivesTermination(loader.worker_init_fn)
            return loader
        dataset, size = self.train_dataset, self.args.per_device_train_batch_size
        assert isinstance(dataset, Dataset)
        # neighbours in a step lend each other answers (KTO), so their order is kept
        costs = None if MISMATCHED in self.objective.roles else row_costs(dataset)
        return self._loader(
            dataset,
            size,
            seed=self.args.seed if self.shuffle else None,
            costs=costs,
            persistent_workers=self.args.dataloader_persistent_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def _loader(
        self,
        dataset: Dataset,
        size: int,
        *,
        seed: int | None,
        costs: Costs | None = None,
        **options: Any,
    ) -> StepLoader:
        assert isinstance(dataset, Sized)
        world, rank = self.settings.num_processes, self.settings.process_index
        batches = StepBatches(len(dataset), size * world, seed=seed, rank=rank, world=world, costs=costs)
        return StepLoader(dataset, batches, collate_fn=collate, num_workers=self.args.dataloader_num_workers, **options)

    def _stream_batches(self, stream: GroupStream) -> DataLoader:
        """This process's share of every step; a stream shares itself among processes."""
        return stream.loader(
            self.args.per_device_train_batch_size,
            rank=self.settings.process_index,
            num_ranks=self.settings.num_processes,
            collate_fn=collate,
            num_workers=self.args.dataloader_num_workers,
            persistent_workers=self.args.dataloader_persistent_workers,
            pin_memory=self.args.dataloader_pin_memory,
        )

    def training_step(
        self, model: nn.Module, inputs: dict[str, list], num_items_in_batch: Tensor | int | None = None
    ) -> Tensor:
        """One optimizer step's gradient."""
        model.train()
        self._take_bad_rows(inputs["bad_rows"])
        self.truncated.see(inputs["truncated"])
        groups = self._with_auxiliary(inputs["groups"], self._lender(inputs["groups"]))
        if self._sum_over_processes({"groups": float(len(groups))})["groups"] == 0:
            raise DataError(
                f"All rows of step {self.state.global_step + 1} are bad: nothing is left to train on. Run `sightline "
                "data check`, or give a larger `per_device_train_batch_size`."
            )
        self.num_tokens += sum(group.num_tokens for group in groups)
        self.begin_step(groups)
        if self._is_sharded:
            self.spare.see(groups)
        return train_step(
            model,
            groups,
            self.objective,
            self.reference,
            self.settings,
            state=self.objective_state,
            backward=self._backward,
            means=self.means,
        )

    def try_step(self, groups: list[Group], settings: StepSettings) -> None:
        """Forward and backward of a step that is not taken: nothing of it stays, its gradient is zero times its own."""
        model = self.model_wrapped
        assert model is not None
        model.train()
        train_step(
            model,
            self._with_auxiliary(groups, self._lender(groups)),
            self.objective,
            self.reference,
            settings,
            state=dict(self.objective_state),
            backward=lambda loss: self._backward(0.0 * loss),
            means=Means(),
        )
        if not self.is_deepspeed_enabled:  # which keeps what it has accumulated: zeros
            model.zero_grad(set_to_none=True)

    def evaluate(
        self,
        eval_dataset: Dataset | dict[str, Dataset] | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Loss and metrics over held-out rows: sums over all of them, divided once."""
        dataset = eval_dataset if eval_dataset is not None else self.eval_dataset
        model = self.model_wrapped
        assert isinstance(dataset, Dataset) and model is not None
        model.eval()
        held_out, started = HeldOut(self.objective, self.settings, self.objective_state), time.time()
        spare: Group | None = None
        for inputs in self._eval_batches(dataset):
            self._take_bad_rows(inputs["bad_rows"])
            self.truncated.see(inputs["truncated"])
            groups = self._with_auxiliary(inputs["groups"], spare)
            spare = self._last_of(inputs["groups"]) or spare
            if groups:
                held_out.add(model, groups, self.reference)
        figures = held_out.figures()
        self._gather_row_counts()
        metrics = {f"{metric_key_prefix}_{name}": value for name, value in figures.items()}
        metrics[f"{metric_key_prefix}_runtime"] = time.time() - started
        super().log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _last_of(self, groups: list[Group]) -> Group | None:
        """The last group of a batch over all processes, without its pictures; only asked where answers are lent."""
        if MISMATCHED not in self.objective.roles:
            return None
        last = self._gather([replace(group, model_inputs={}) for group in groups[-1:]])
        return next((group for of_process in reversed(last) for group in of_process), None)

    def _eval_batches(self, dataset: Dataset) -> DataLoader:
        size = self.args.per_device_eval_batch_size
        # neighbours lend each other their answers: an odd batch would part two of them
        return self._loader(dataset, size + size % 2 if MISMATCHED in self.objective.roles else size, seed=None)

    def log(self, logs: dict[str, float], start_time: float | None = None) -> None:
        """Training logs carry the averages since the last log, by TRL's names, and peak memory."""
        self._gather_row_counts()
        if "loss" in logs:
            averaged = averages(self._gather(self.means.totals()))
            if len(self.objective.weights) == 1:
                averaged = {name: value for name, value in averaged.items() if not name.startswith("loss/")}
            logs = {**logs, **averaged, "num_tokens": sum(self._gather(self.num_tokens)), **device_memory()}
            if self.settings.memory.limit is not None:
                logs["token_limit"] = self.settings.memory.limit
            if self.bad_rows:
                logs["rows_skipped"] = len(self.bad_rows)
            if self.truncated.known:
                logs["rows_truncated"] = len(self.truncated.known)
            self.means.clear()
            self.watch(logs)
        super().log(logs, start_time)

    def close(self) -> None:
        """Give back what training held besides the model."""

    def _save(self, output_dir: str | None = None, state_dict: dict | None = None) -> None:
        """Model or adapter as safetensors, and the processor; no pickled training arguments."""
        folder = output_dir if output_dir is not None else self.args.output_dir
        if self.args.should_save:
            assert isinstance(self.model, PreTrainedModel | PeftModel) and folder is not None
            self.model.save_pretrained(folder, state_dict=state_dict)
            self.processor.save_pretrained(folder)

    def process_state(self) -> dict[str, Any]:
        """With the objective's state, the figures since the last log, and where a stream of rows stands."""
        own = {
            "objective": self.objective_state,
            "means": self.means.state(),
            "num_tokens": self.num_tokens,
            "bad_rows": self.bad_rows,
            "truncated": self.truncated.state(),
            "token_limit": self.settings.memory.limit,
            "stream": None if self.group_stream is None else self.group_stream.state(self.state.global_step),
        }
        return super().process_state() | own

    def load_process_state(self, state: dict[str, Any]) -> None:
        """Put back what `process_state` gave."""
        super().load_process_state(state)
        # in place: others hold these objects too
        self.objective_state.update(state["objective"])
        self.means.load_state(state["means"])
        self.num_tokens = state["num_tokens"]
        self.bad_rows.update(state["bad_rows"])
        self.truncated.load_state(state["truncated"])
        self.settings.memory.limit = state["token_limit"]
        if self.group_stream is not None:
            self.group_stream.load(state["stream"], self.state.global_step)

    def _take_bad_rows(self, rows: list[BadRow]) -> None:
        for row in rows:
            if not row.skip:
                raise DataError(row.message)
            self.bad_rows[row.id] = row.message

    def _gather_row_counts(self) -> None:
        """Rows that were left out or trimmed in any process."""
        for bad_rows in self._gather(self.bad_rows):
            self.bad_rows |= bad_rows
        self.truncated.gather(self._gather)

    @property
    def _is_ddp(self) -> bool:
        return self.accelerator.distributed_type in (DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)

    @property
    def _is_sharded(self) -> bool:
        return self.accelerator.num_processes > 1 and not self._is_ddp

    def _any_process(self, flag: bool) -> bool:
        return self._sum_over_processes({"flag": float(flag)})["flag"] > 0

    def _with_auxiliary(self, groups: list[Group], spare: Group | None = None) -> list[Group]:
        groups = with_corrected(groups, self.objective.corrected_weight)
        index = self.accelerator.process_index
        return with_auxiliary(groups, self.objective.roles, gather=self._gather, process_index=index, spare=spare)

    def _lender(self, groups: list[Group]) -> Group | None:
        """For a step of a single prompt, the last of an epoch, that borrows an answer: the first other row."""
        dataset = self.train_dataset
        if len(groups) != 1 or MISMATCHED not in self.objective.roles or not isinstance(dataset, Sized):
            return None
        first = (dataset[index] for index in range(min(NUM_LENDERS, len(dataset))))
        return next((item for item in first if isinstance(item, Group) and item.id != groups[0].id), None)

    def _sum_over_processes(self, counts: dict[str, float]) -> dict[str, float]:
        if self.accelerator.num_processes == 1:
            return counts
        values = torch.tensor(list(counts.values()), dtype=torch.float64, device=self.accelerator.device)
        total = self.accelerator.reduce(values, reduction="sum")
        return dict(zip(counts, total.tolist(), strict=True))

    def _gather(self, thing: Any) -> list[Any]:
        """One object from each process, in their order."""
        return gather_object([thing]) if self.accelerator.num_processes > 1 else [thing]
