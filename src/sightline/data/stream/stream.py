"""Sources read from front to back while training: shuffled in blocks, shared among ranks, resumed at the next row.

All processes go through one order of rows that depends on seed and data alone. Passes are cut into blocks of
`shuffle_buffer` rows, each shuffled; a step of R ranks with G rows each takes the next R·G of them, rank r the r-th G.
Neither ranks nor workers change what a step sees, nothing is left over at the end of a pass, and where a run stands is
one number and the place in the files where its block began: to resume is to read one block again.
"""

import itertools
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import DataLoader, Dataset

from sightline.config.data import DataConfig
from sightline.data.defects import RowError
from sightline.data.render.corrupt import with_companion
from sightline.data.render.dataset import Kind, bad_row, check_as, render
from sightline.data.render.render import Renderer
from sightline.data.rows import Entry
from sightline.data.stream.passes import Passes, Stream
from sightline.errors import RecipeError
from sightline.types import BadRow, Group

PLAIN_BLOCK = 256
"""Rows of a block where nothing is shuffled."""


class Block(NamedTuple):
    """Rows in the order in which they are seen, and the place in the files where the block began."""

    entries: list[Entry]
    state: dict[str, Any]


class Mark(NamedTuple):
    """position: rows seen by all ranks before a block. state: where it begins."""

    position: int
    state: dict[str, Any]


class GroupStream(Dataset):
    """The groups of streams, without end; an item is made of an `Entry`, a `Group` or a `BadRow`.

    streams: see `sources.streams_of`. kind: see `GroupDataset`. shuffle: among `config.shuffle_buffer` rows, and the
    order of files. corrupt: give pairs mDPO's companion. position: rows that all ranks had seen at `first_step`, where
    this process began.
    """

    def __init__(
        self,
        streams: list[Stream],
        config: DataConfig,
        renderer: Renderer,
        kind: Kind,
        *,
        seed: int,
        shuffle: bool = True,
        corrupt: bool = False,
    ) -> None:
        refused = {
            "val_size": "holding rows out", "share_images": "joining rows on one image",
            "cache_tokens": "a cache of tokens",
        }  # fmt: skip
        for name, what in refused.items():
            if getattr(config, name):
                raise RecipeError(
                    f"data.{name}: {what} needs all rows at hand, but data.streaming reads them from front to back. "
                    f"Leave one of the two out{'; eval_source gives held-out rows' if name == 'val_size' else ''}."
                )
        self.streams, self.config, self.renderer = streams, config, renderer
        self.kind: Kind = kind
        self.seed, self.shuffle, self.corrupt = seed, shuffle, corrupt
        self.position, self.first_step = 0, 0
        self._per_step = 0
        self._start: dict[str, Any] | None = None
        self._marks: deque[Mark] = deque()

    def __getitem__(self, entry: Entry) -> Group | BadRow:
        try:
            example = check_as(entry.example(), self.kind)
            group = render(example, self.renderer, self.kind)
            return with_companion(group, example, self.renderer, self.config.seed) if self.corrupt else group
        except RowError as error:
            return bad_row(entry.name, error, self.config)

    def __getstate__(self) -> dict[str, Any]:
        """For workers, which render entries and read no files."""
        return {**self.__dict__, "streams": [], "_marks": deque()}

    def first(self, count: int) -> Iterator[Group | BadRow]:
        """The first items of the files; where training stands does not change."""
        return (self[entry] for entry in itertools.islice(self.entries(), count))

    def entries(self) -> Iterator[Entry]:
        """One pass over the rows in the order of the files; where training stands does not change."""
        passes = Passes(self.streams, seed=None, limit=self.config.limit)
        while (entry := passes.next()) is not None:
            yield entry

    def loader(self, num_groups: int, *, rank: int, num_ranks: int, **options: Any) -> DataLoader:
        """Batches of `num_groups` items for one rank, each one step's, from `position` on. options: of `DataLoader`."""
        self._per_step = num_groups * num_ranks
        steps = _Steps(self, num_groups, rank, num_ranks)
        return DataLoader(self, batch_sampler=steps, **options)

    def state(self, step: int) -> dict[str, Any]:
        """What `load` takes to go on after `step` steps."""
        position = self._position_at(step)
        mark = self._mark_before(position)
        return {**self._kind_of_order(), "position": position, "block_position": mark.position, "block": mark.state}

    def load(self, state: Mapping[str, Any], step: int) -> None:
        """Go on from there, which is after `step` steps. Raises `RecipeError` when rows now come in another order."""
        for name, value in self._kind_of_order().items():
            if state[name] != value:
                raise RecipeError(
                    f"This run cannot go on: {name} was {state[name]!r} when the checkpoint was written and is now "
                    f"{value!r}, so rows would be lost or repeated. Set it back, or start a new run."
                )
        self.position, self.first_step = state["position"], step
        self._marks.clear()
        self._start = {"position": state["block_position"], "block": state["block"]}

    def num_passes(self, step: int) -> int:
        """Whole passes over the data before the last row of `step` steps."""
        return self._mark_before(self._position_at(step)).state["pass"]

    def _position_at(self, step: int) -> int:
        return self.position + (step - self.first_step) * self._per_step

    def order(self) -> Iterator[Entry]:
        """All rows from `position` on, in the order in which they are seen; marks where blocks begin."""
        start = self._start or {"position": 0, "block": None}
        passes = Passes(
            self.streams,
            seed=self.seed if self.shuffle else None,
            limit=self.config.limit,
            state=start["block"],
        )
        place, skip = start["position"], self.position - start["position"]
        self._marks.clear()
        with ThreadPoolExecutor(1) as reader:
            # the next block is read while this one is used
            coming = reader.submit(self._read_block, passes)
            while True:
                block = coming.result()
                coming = reader.submit(self._read_block, passes)
                self._marks.append(Mark(place, block.state))
                yield from block.entries[skip:]
                place, skip = place + len(block.entries), 0

    def _read_block(self, passes: Passes) -> Block:
        """The next rows, at most `shuffle_buffer` and none of the next pass."""
        state = passes.state()
        size = self.config.shuffle_buffer if self.shuffle else PLAIN_BLOCK
        entries: list[Entry] = []
        while len(entries) < size:
            entry = passes.next()
            if entry is not None:
                entries.append(entry)
            elif entries:
                break
            else:
                state = passes.state()
        if self.shuffle:
            order = np.random.default_rng([self.seed, state["pass"], state["taken"]]).permutation(len(entries))
            entries = [entries[i] for i in order]
        return Block(entries, state)

    def _mark_before(self, position: int) -> Mark:
        """Of the block that holds the row at `position - 1`. Those before it are forgotten."""
        if not self._marks:
            start = self._start or {"position": 0, "block": Passes(self.streams, seed=None).state()}
            return Mark(start["position"], start["block"])
        while len(self._marks) > 1 and self._marks[1].position < position:
            self._marks.popleft()
        return self._marks[0]

    def _kind_of_order(self) -> dict[str, Any]:
        """What the order of rows depends on."""
        return {
            "data": [part.source for stream in self.streams for part in stream.parts],
            "seed": self.seed,
            "shuffle": self.shuffle,
            "data.shuffle_buffer": self.config.shuffle_buffer,
            "data.limit": self.config.limit,
        }


class _Steps:
    """The entries of each of a rank's steps: what a `DataLoader` takes for a sampler of batches."""

    def __init__(self, stream: GroupStream, num_groups: int, rank: int, num_ranks: int) -> None:
        self.stream, self.num_groups, self.rank, self.num_ranks = stream, num_groups, rank, num_ranks

    def __iter__(self) -> Iterator[list[Entry]]:
        mine: list[Entry] = []
        for number, entry in enumerate(self.stream.order()):
            if number // self.num_groups % self.num_ranks == self.rank:
                mine.append(entry)
            if (number + 1) % (self.num_groups * self.num_ranks) == 0:
                yield mine
                mine = []
