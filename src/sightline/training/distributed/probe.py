"""The longest step of a run, tried before the first: whether it fits, and how much memory it takes.

Only where weights are sharded: elsewhere a step that runs out of memory is cut finer when it comes.
"""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from itertools import islice
from typing import Any

import torch
from rich.console import Console
from torch.utils.data import DataLoader, Dataset, Subset
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.config import Recipe
from sightline.data.stream.loader_workers import FinishesStepOnTermination
from sightline.data.stream.stream import GroupStream
from sightline.errors import OutOfMemory
from sightline.memory.estimate import STATES
from sightline.memory.page import size
from sightline.objectives.roles import MISMATCHED
from sightline.training.datasets import Costs, StepBatches, group_of, row_costs, shares
from sightline.training.online.trainer import OnlineTrainer
from sightline.training.random_states import random_states, set_random_states
from sightline.training.step.memory import bins, grid_tokens, tokens_in_grid
from sightline.training.step.metrics import MetricsFile
from sightline.training.step.micro_batch import cut_step
from sightline.training.trainer import AlignmentTrainer
from sightline.training.watch.memory import advise
from sightline.types import Columns, Group

NUM_READ = 1024
"""Rows that all processes together read at most where lengths are not known."""
WHICH = "The longest step of this run, tried before the first one,"


@dataclass(frozen=True, kw_only=True)
class LongestStep:
    """The step of a run with the largest micro-batch.

    groups: this process's. num_rows: of all processes. num_known, total: rows whose length is known, and all that are
    considered.
    """

    groups: list[Group]
    num_rows: int
    num_known: int
    total: int


def try_longest_first(trainer: AlignmentTrainer, recipe: Recipe, metrics: MetricsFile, console: Console) -> None:
    """Have the trainer try its longest step when its model is ready; then, raises `OutOfMemory` in every process."""
    if trainer.engine.sharded and can_run_out(trainer.settings.device):
        trainer.add_callback(_Probe(lambda: probe(trainer, recipe, metrics, console)))


def can_run_out(device: torch.device) -> bool:
    """Whether a process gets an error when memory runs out; on a CPU the system ends it instead."""
    return device.type == "cuda"


class _Probe(TrainerCallback):
    """Does some work before the first step, or the first after a checkpoint."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.work()


def probe(trainer: AlignmentTrainer, recipe: Recipe, metrics: MetricsFile, console: Console) -> None:
    """Forward and backward of the longest step, and a line with what it took. Raises `OutOfMemory` with advice."""
    random, dummy = random_states(), trainer.dummy_group.group
    step = longest_step(trainer)
    settings = trainer.settings
    memory = replace(settings.memory, advise=partial(advise, trainer, recipe, which=WHICH))
    try:
        states = torch.empty(states_to_come(trainer, recipe), dtype=torch.uint8, device=settings.device)
    except torch.OutOfMemoryError:
        longest = max(step.groups, key=lambda group: group.num_tokens, default=None) or trainer.dummy_group()
        raise OutOfMemory(memory.advise(longest)) from None
    trainer.try_step(step.groups, replace(settings, memory=memory))
    del states
    trainer.dummy_group.group = dummy
    set_random_states(random)
    report(trainer, step, metrics, console)


def states_to_come(trainer: AlignmentTrainer, recipe: Recipe) -> int:
    """Bytes of this process's part of the optimizer's states; a resumed run has them already."""
    assert trainer.model is not None
    if trainer.state.global_step > 0:
        return 0
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    # of a weight that it shards, DeepSpeed leaves nothing but its number
    number = sum(int(weight.ds_numel) if hasattr(weight, "ds_id") else weight.numel() for weight in trained)
    return round(number * STATES[recipe.optim] / trainer.settings.num_processes)


def report(trainer: AlignmentTrainer, step: LongestStep, metrics: MetricsFile, console: Console) -> None:
    """Print that the longest step fits, and what it took on the fullest GPU."""
    settings = trainer.settings
    here = torch.cuda.max_memory_allocated(settings.device) if settings.device.type == "cuda" else 0
    took = max(settings.gather(here))
    tokens = max(settings.gather(fullest_forward(step.groups, trainer)))
    if not trainer.is_world_process_zero():
        return
    metrics.write({"event": "longest step", "rows": step.num_rows, "tokens": tokens, "bytes": took})
    of_how_many = ""
    if step.num_known < step.total:
        of_how_many = (
            f". It was searched among {step.num_known:,} of {step.total:,} rows; with `data.cache_tokens` all "
            "lengths are known"
        )
    console.print(
        f"The longest step fits: {step.num_rows} rows, up to {tokens:,} tokens a forward"
        + (f", {size(took)} on the fullest GPU" if took else "")
        + of_how_many,
        highlight=False,
    )


def fullest_forward(groups: list[Group], trainer: AlignmentTrainer) -> int:
    """Tokens of this process's largest micro-batch of these groups."""
    shared = trainer.settings.layout == "prefix"
    pieces = cut_step(groups, trainer.settings)
    return max((tokens_in_grid(piece, shared_prefix=shared) for piece in pieces), default=0)


def longest_step(trainer: AlignmentTrainer) -> LongestStep:
    """The step of the run with the most tokens in a micro-batch. Every process calls it, and all find the same.

    Bad rows are left out; they are reported when their own step comes.
    """
    rows, settings = rows_of(trainer), trainer.settings
    online = isinstance(trainer, OnlineTrainer)
    world, at_once = settings.num_processes, trainer.args.per_device_train_batch_size * settings.num_processes
    costs = None if online else row_costs(rows)
    known = dict(enumerate(costs)) if costs is not None else read_lengths(trainer, rows)
    average = sum(known.values()) / max(len(known), 1)
    lengths = [round(known.get(row, average)) for row in range(len(rows))]
    if online or trainer.group_stream is not None:
        longest = sorted(range(len(rows)), key=lambda row: -lengths[row])[:at_once]
        step = [[longest[i] for i in share] for share in shares(len(longest), world, None)]
    else:
        batches = StepBatches(len(rows), at_once, seed=trainer.args.seed if trainer.shuffle else None)
        sharing = None if MISMATCHED in trainer.objective.roles else costs
        steps = all_steps(batches, trainer.state.max_steps, world, sharing)
        step = fullest(steps, lengths, settings.groups_per_forward)
    items = [rows[row] for row in step[settings.process_index]]
    groups = [group for group in map(group_of, items) if group is not None]
    if isinstance(trainer, OnlineTrainer):
        groups = [with_longest_completions(group, trainer) for group in groups]
    return LongestStep(groups=groups, num_rows=sum(map(len, step)), num_known=len(known), total=len(rows))


def fullest(steps: Iterable[list[list[int]]], lengths: Costs, groups_per_forward: int) -> list[list[int]]:
    """The step with the most tokens in a micro-batch of any process. steps: the rows of each process in each step."""
    best, most = [], -1.0
    for step in steps:
        for share in step:
            sizes = [int(lengths[row]) for row in share]
            # a micro-batch holds no more than this
            if groups_per_forward * max(sizes, default=0) <= most:
                continue
            cut = bins([[size] for size in sizes], groups_per_forward=groups_per_forward)
            full = max((grid_tokens([sizes[i] for i in one], shared_prefix=True) for one in cut), default=0)
            if full > most:
                best, most = step, full
    return best


def all_steps(batches: StepBatches, num_steps: int, world: int, costs: Costs | None) -> Iterator[list[list[int]]]:
    """The rows of each process in every step of a run, pass after pass."""
    left = num_steps
    while left > 0:
        order = batches.order()
        for start in range(0, len(order), batches.rows_a_step)[:left]:
            rows = order[start : start + batches.rows_a_step]
            weights = None if costs is None else [costs[row] for row in rows]
            yield [[rows[i] for i in share] for share in shares(len(rows), world, weights)]
        left -= len(batches)
        batches.start_pass(batches.epoch + 1)


def read_lengths(trainer: AlignmentTrainer, rows: Any) -> dict[int, int]:
    """Tokens of evenly spaced rows, each read by one of the processes."""
    settings = trainer.settings
    chosen = range(0, len(rows), -(-len(rows) // NUM_READ))
    mine = list(chosen)[settings.process_index :: settings.num_processes]
    loader = DataLoader(
        Subset(Lengths(rows), mine),
        batch_size=None,
        num_workers=trainer.args.dataloader_num_workers,
        worker_init_fn=FinishesStepOnTermination(),
        generator=torch.Generator(),
    )
    here = dict(zip(mine, map(int, loader), strict=True))
    return {row: length for part in settings.gather(here) for row, length in part.items()}


def with_longest_completions(prompt: Group, trainer: OnlineTrainer) -> Group:
    """The prompt with as many and as long completions as may be sampled, out of its own words."""
    sampling, images = trainer.sampling, torch.tensor(trainer.settings.family.image_token_ids)
    words = prompt.prompt_ids[~torch.isin(prompt.prompt_ids, images)]
    length, number = sampling.max_completion_length, sampling.num_generations
    completion = words.repeat(-(-length // len(words)))[:length]
    return replace(
        prompt,
        responses=(completion,) * number,
        weights=(torch.ones(length),) * number,
        columns=Columns(advantage=torch.zeros(number)),
    )


def rows_of(trainer: AlignmentTrainer) -> Any:
    """What the trainer's rows are read from, by number."""
    if isinstance(trainer, OnlineTrainer):
        return trainer.prompts
    return trainer.train_dataset if trainer.group_stream is None else FirstRows(trainer.group_stream)


class FirstRows(Dataset):
    """The first rows of a stream, which itself stays where it is."""

    def __init__(self, stream: GroupStream) -> None:
        self.stream, self.entries = stream, list(islice(stream.entries(), NUM_READ))

    def __len__(self) -> int:
        return len(self.entries)

    def __getitem__(self, index: int) -> Any:
        return self.stream[self.entries[index]]


class Lengths(Dataset):
    """Tokens of each row; 0 for a bad one."""

    def __init__(self, rows: Any) -> None:
        self.rows = rows

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> int:
        group = group_of(self.rows[index])
        return tokens_in_grid([group], shared_prefix=True) if group is not None else 0
