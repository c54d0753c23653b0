"""Which rows this process reads for each step: its share of the step of all processes, balanced by tokens.

A step's rows are the same however many processes there are, each in exactly one of them; the last step of a pass may
have fewer, and then a process may have none. The library's own sharding repeats rows so that all have as many.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.data.dataset import LEFT_OUT, BadRow, GroupDataset
from sightline.data.loader_workers import OutlivesTermination
from sightline.data.render import TRUNCATED
from sightline.types import Group

Costs = Sequence[float | int]
"""Tokens of each row."""


class StepBatches(Sampler[list[int]]):
    """A batch sampler: the row numbers of this process, a list a step.

    rows_a_step: of all `world` processes. seed: of the order; None keeps the rows' own. costs: tokens of each row, by
    which the rows of a step are shared out; without them each process takes as many rows as the next, in their order.
    """

    def __init__(
        self,
        num_rows: int,
        rows_a_step: int,
        *,
        seed: int | None,
        rank: int = 0,
        world: int = 1,
        costs: Costs | None = None,
    ) -> None:
        self.num_rows, self.rows_a_step, self.seed = num_rows, rows_a_step, seed
        self.rank, self.world, self.costs = rank, world, costs
        self.epoch = 0

    def __len__(self) -> int:
        return -(-self.num_rows // self.rows_a_step)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        for start in range(0, self.num_rows, self.rows_a_step):
            rows = order[start : start + self.rows_a_step]
            costs = None if self.costs is None else [self.costs[row] for row in rows]
            yield [rows[i] for i in shares(len(rows), self.world, costs)[self.rank]]

    def order(self) -> list[int]:
        """The order of the present pass over the data."""
        if self.seed is None:
            return list(range(self.num_rows))
        return torch.randperm(self.num_rows, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()

    def set_epoch(self, epoch: int) -> None:
        """Another pass; the Trainer calls it."""
        self.epoch = epoch


def shares(num_rows: int, world: int, costs: Costs | None) -> list[list[int]]:
    """Row numbers for each process. With costs: the longest first, each to the process with the least so far.

    (Graham's longest-processing-time rule: at most 4/3 of the best possible; near it when rows are many.)
    """
    if costs is None:
        size = -(-num_rows // world)
        return [list(range(num_rows))[r * size : (r + 1) * size] for r in range(world)]
    taken: list[list[int]] = [[] for _ in range(world)]
    load = [0.0] * world
    for row in sorted(range(num_rows), key=lambda row: -costs[row]):
        least = min(range(world), key=load.__getitem__)
        taken[least].append(row)
        load[least] += costs[row]
    return [sorted(rows) for rows in taken]


class StepLoader(DataLoader):
    """Reads the rows of `StepBatches`; draws nothing from the global random state."""

    def __init__(self, dataset: Dataset, batches: StepBatches, *, collate_fn: Callable, **options: Any) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=collate_fn,
            generator=torch.Generator().manual_seed(batches.seed or 0),
            worker_init_fn=OutlivesTermination(),
            **options,
        )
        self.batches = batches

    def set_epoch(self, epoch: int) -> None:
        """Another pass; the Trainer calls it."""
        self.batches.set_epoch(epoch)


def collate(items: list[Group | BadRow]) -> dict[str, list]:
    """A Trainer batch must be a dict; nothing is padded before the step is cut."""
    groups = [item for item in items if isinstance(item, Group)]
    return {
        "groups": groups,
        "bad_rows": [row for item in items for row in bad_rows(item)],
        "truncated": [(name, number) for group in groups for name, number in truncated_rows(group).items()],
    }


def bad_rows(item: Group | BadRow) -> tuple[BadRow, ...]:
    """The bad rows that an item is, or that were left out of it."""
    return (item,) if isinstance(item, BadRow) else item.extra.get(LEFT_OUT, ())


def truncated_rows(group: Group) -> dict[str, int]:
    """Names of the rows in a group that `data.max_length` trimmed → how many of their responses."""
    parts = (*group.companions, group)
    return {name: number for part in parts for name, number in part.extra.get(TRUNCATED, {}).items()}


def row_costs(dataset: Any) -> Costs | None:
    """Tokens of each item, where they are known before it is read: `data.cache_tokens`."""
    groups = getattr(dataset, "dataset", dataset)
    if not isinstance(groups, GroupDataset) or groups.cache is None:
        return None
    lengths = groups.cache.lengths.tolist()
    return lengths if groups.items is None else [sum(lengths[row] for row in rows) for rows in groups.items]
