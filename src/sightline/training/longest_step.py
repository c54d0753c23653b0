"""Which step of a run has the fullest micro-batch, and this process's rows of it.

Lengths of all rows are known where `data.cache_tokens` is set. Elsewhere some rows are read to learn them, shared out
among the processes; the others count as long as those are on average. Of streams the first rows are looked at, and
prompts are given answers as long as the sampler lets them be: there the longest are taken as if they came together.
"""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from itertools import islice
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Subset

from sightline.data.loader_workers import OutlivesTermination
from sightline.data.stream import GroupStream
from sightline.objectives.roles import MISMATCHED
from sightline.training.cut import bins, tokens_in_grid
from sightline.training.loader import Costs, StepBatches, row_costs, shares
from sightline.training.online import OnlineTrainer
from sightline.training.trainer import AlignmentTrainer
from sightline.types import Group

NUM_READ = 1024
"""Rows that all processes together read at most where lengths are not known."""


@dataclass(frozen=True, kw_only=True)
class LongestStep:
    """groups: this process's. num_rows: of all processes. num_known, total: rows whose length is known, and all that
    are looked at."""

    groups: list[Group]
    num_rows: int
    num_known: int
    total: int


def longest_step(trainer: AlignmentTrainer) -> LongestStep:
    """Every process calls it; all look at the same steps. Bad rows are left out, to be told of when they come."""
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
    groups = [item for item in items if isinstance(item, Group)]
    if isinstance(trainer, OnlineTrainer):
        groups = [with_longest_answers(group, trainer) for group in groups]
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
            full = max(
                (sum(sizes[i] for i in one) for one in bins(sizes, groups_per_forward=groups_per_forward)), default=0
            )
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
        batches.set_epoch(batches.epoch + 1)


def read_lengths(trainer: AlignmentTrainer, rows: Any) -> dict[int, int]:
    """Tokens of rows spread over the data, each read by one of the processes."""
    settings = trainer.settings
    chosen = range(0, len(rows), -(-len(rows) // NUM_READ))
    mine = list(chosen)[settings.process_index :: settings.num_processes]
    loader = DataLoader(
        Subset(Lengths(rows), mine),
        batch_size=None,
        num_workers=trainer.args.dataloader_num_workers,
        worker_init_fn=OutlivesTermination(),
        generator=torch.Generator(),
    )
    here = dict(zip(mine, map(int, loader), strict=True))
    return {row: length for part in settings.gather(here) for row, length in part.items()}


def with_longest_answers(prompt: Group, trainer: OnlineTrainer) -> Group:
    """The prompt with as many and as long answers as may be sampled, out of its own words."""
    sampling, pictures = trainer.sampling, torch.tensor(trainer.settings.family.image_token_ids)
    words = prompt.prompt_ids[~torch.isin(prompt.prompt_ids, pictures)]
    length, number = sampling.max_completion_length, sampling.num_generations
    answer = words.repeat(-(-length // len(words)))[:length]
    return replace(
        prompt,
        responses=(answer,) * number,
        weights=(torch.ones(length),) * number,
        extra={"advantage": torch.zeros(number)},
    )


def rows_of(trainer: AlignmentTrainer) -> Any:
    """What rows are read from, by number."""
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
        item = self.rows[index]
        return tokens_in_grid(item, shared_prefix=True) if isinstance(item, Group) else 0
