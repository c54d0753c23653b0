"""A source read from front to back while training: rows in a shuffled buffer, in constant memory, without a length."""

import random
from collections.abc import Iterable, Iterator
from dataclasses import replace

from torch.utils.data import IterableDataset, get_worker_info

from sightline.config.data import DataConfig
from sightline.data.dataset import BadRow, Kind, read_entry
from sightline.data.render import Renderer
from sightline.data.rows import Entry
from sightline.data.sources import stream_rows
from sightline.types import Group


class GroupStream(IterableDataset):
    """The groups of `config.source` in one pass, as `GroupDataset` makes them.

    rank, num_ranks: of this process; every rank and worker takes its own rows. shuffle: among `config.shuffle_buffer`
    rows, another order each epoch (`set_epoch`). Pictures are decoded after the buffer, so it holds encoded ones.
    """

    def __init__(
        self,
        config: DataConfig,
        renderer: Renderer,
        kind: Kind,
        *,
        shuffle: bool = True,
        rank: int = 0,
        num_ranks: int = 1,
    ) -> None:
        self.config, self.renderer, self.shuffle = config, renderer, shuffle
        self.kind: Kind = kind
        self.rank, self.num_ranks = rank, num_ranks
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Another order for another pass; the Trainer calls it."""
        self.epoch = epoch

    def __iter__(self) -> Iterator[Group | BadRow]:
        worker = get_worker_info()
        num_workers, which = (1, 0) if worker is None else (worker.num_workers, worker.id)
        share, num_shares = self.rank * num_workers + which, self.num_ranks * num_workers
        config = replace(self.config, limit=None)
        entries = (
            entry
            for index, entry in enumerate(_limited(stream_rows(config), self.config.limit))
            if index % num_shares == share
        )
        if self.shuffle:
            entries = shuffled(entries, self.config.shuffle_buffer, seed=self.config.seed + self.epoch)
        for entry in entries:
            yield read_entry(entry, self.renderer, self.kind, self.config)


def shuffled(entries: Iterable[Entry], size: int, seed: int) -> Iterator[Entry]:
    """Every entry once, drawn at random from a buffer of `size` that is refilled from the front."""
    draw = random.Random(seed)
    buffer: list[Entry] = []
    for entry in entries:
        if len(buffer) < size:
            buffer.append(entry)
            continue
        index = draw.randrange(size)
        buffer[index], entry = entry, buffer[index]
        yield entry
    draw.shuffle(buffer)
    yield from buffer


def _limited(entries: Iterable[Entry], limit: int | None) -> Iterator[Entry]:
    for count, entry in enumerate(entries):
        if limit is not None and count >= limit:
            return
        yield entry
