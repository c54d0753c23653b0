"""The prompts of an online run: rows without responses, in an endless shuffled order that can be entered anywhere."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.config.data import DataConfig
from sightline.data.defects import RowError
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.data.stream.loader_workers import FinishesStepOnTermination
from sightline.errors import DataError
from sightline.types import BadRow, Prompt

MESSAGE_COLUMNS = ("prompt", "messages", "conversations")
"""A row whose prompt comes from one of them as a list is a conversation; its completions reach rewards as messages."""


class PromptDataset(Dataset):
    """Rows as prompts; an item is a `Prompt`, or a `BadRow`. groups: the same as groups without responses."""

    def __init__(self, rows: Any, config: DataConfig, renderer: Renderer) -> None:
        assert not config.share_images, "the recipe refuses it: completions are sampled for each prompt apart"
        self.groups = GroupDataset(rows, config, renderer, "prompts")

    def __len__(self) -> int:
        return len(self.groups)

    def columns(self, num_rows: int) -> list[str] | None:
        """Names of the user's columns that any of the first rows has, None where all of those are bad; no image is
        decoded."""
        examples = []
        for index in range(min(num_rows, len(self))):
            with suppress(RowError):
                examples.append(self.groups.example(index))
        return list(dict.fromkeys(name for example in examples for name in example.row)) if examples else None

    def __getitem__(self, index: int) -> Prompt | BadRow:
        group = self.groups[index]
        if isinstance(group, BadRow):
            return group
        example, row = self.groups.example(index), self.groups.rows[index]
        # a column of that name that the prompt was not read from is the user's own
        read = [row.get(name) for name in MESSAGE_COLUMNS if name not in example.row]
        return Prompt(
            group=group,
            messages=example.prompt,
            text=self.groups.renderer.template.prompt(example.prompt, example.id),
            images=example.images,
            conversational=any(isinstance(value, list | tuple) for value in read),
            index=index,
        )


class Order(Sampler[int]):
    """Row numbers without end: every pass over the data in another order, this process's share, from `start` on."""

    def __init__(self, num_rows: int, *, seed: int, shuffle: bool, start: int, rank: int, world: int) -> None:
        self.num_rows, self.seed, self.shuffle = num_rows, seed, shuffle
        self.start, self.rank, self.world = start, rank, world

    def __iter__(self) -> Iterator[int]:
        position = self.start * self.world + self.rank
        drawn, order = -1, []
        while True:
            epoch, place = divmod(position, self.num_rows)
            if epoch != drawn:
                drawn, order = epoch, self.epoch(epoch)
            yield order[place]
            position += self.world

    def epoch(self, number: int) -> list[int]:
        """The order of one pass over the data."""
        if not self.shuffle:
            return list(range(self.num_rows))
        generator = torch.Generator().manual_seed(self.seed * 1_000_003 + number)
        return torch.randperm(self.num_rows, generator=generator).tolist()


class PromptStream:
    """Takes prompts from a data set, some ahead of time in worker processes.

    position: prompts taken so far in this process, bad rows included; a stream that starts there goes on alike. A
    prompt is given its `place`: how many all processes had taken before it.
    """

    def __init__(
        self,
        dataset: PromptDataset,
        *,
        seed: int,
        shuffle: bool,
        num_workers: int = 0,
        rank: int = 0,
        world: int = 1,
    ) -> None:
        self.dataset, self.seed, self.shuffle, self.num_workers = dataset, seed, shuffle, num_workers
        self.rank, self.world = rank, world
        self.position = 0
        self.bad_rows: dict[str, str] = {}
        self._items: Iterator[Prompt | BadRow] | None = None

    def take(self, count: int) -> list[Prompt]:
        """The next prompts. Raises `DataError` for a bad row, unless bad rows are skipped."""
        taken: list[Prompt] = []
        bad_in_a_row = 0
        while len(taken) < count:
            if self._items is None:
                self._items = self._start()
            item = next(self._items)
            place = self.position * self.world + self.rank
            self.position += 1
            if isinstance(item, Prompt):
                taken.append(replace(item, place=place))
                bad_in_a_row = 0
                continue
            if not item.skip:
                raise DataError(item.message)
            self.bad_rows[item.id] = item.message
            bad_in_a_row += 1
            if bad_in_a_row > len(self.dataset):
                raise DataError(f"All rows are bad; the first: {next(iter(self.bad_rows.values()))}")
        return taken

    def seek(self, position: int) -> None:
        """Go on from there."""
        self.position = position
        self._items = None

    def close(self) -> None:
        """End the worker processes."""
        self._items = None

    def _start(self) -> Iterator[Prompt | BadRow]:
        order = Order(
            len(self.dataset),
            seed=self.seed,
            shuffle=self.shuffle,
            start=self.position,
            rank=self.rank,
            world=self.world,
        )
        # a generator of its own: the loader would otherwise draw from the global random state
        return iter(
            DataLoader(
                self.dataset,
                batch_size=None,
                sampler=order,
                num_workers=self.num_workers,
                worker_init_fn=FinishesStepOnTermination(),
                generator=torch.Generator().manual_seed(self.seed),
            )
        )
