"""Cut a step into micro-batches that fit: memory and speed change, the curve does not.

A step that runs out of memory is cut finer and done again: half the tokens per micro-batch, twice the micro-batches;
the new limit holds for the rest of the run and is saved in its checkpoints. With several processes no collective
happens inside what may run out: gradients stay where they are (`no_sync`), a flag says whether any process ran out, and
only then are gradients averaged. Engines that shard weights communicate in every forward, so that one process cannot
step back alone: there running out ends the run with advice (`training.distributed.world`), and the longest step is
tried first (`training.distributed.probe`).

Left out: cutting a single group (its responses) further.
"""

import gc
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from accelerate.utils.memory import should_reduce_batch_size

from sightline.errors import OutOfMemory
from sightline.layout import prefix
from sightline.layout.packing import first_fit_decreasing
from sightline.training.random_states import random_states, set_random_states
from sightline.types import Group

T = TypeVar("T")


def cut(
    groups: list[Group], *, groups_per_forward: int, shared_prefix: bool = True, limit: int | None = None
) -> list[list[Group]]:
    """Micro-batches whose grids have at most as many tokens as `groups_per_forward` of the step's longest groups.

    Several short groups thus share a forward that a long one fills alone. Every group is in exactly one micro-batch.
    limit: tokens that no grid of several groups exceeds; a longer group is alone.
    """
    pieces = [pieces_of(group, shared_prefix=shared_prefix) for group in groups]
    found = bins(pieces, groups_per_forward=groups_per_forward, shared_prefix=shared_prefix, limit=limit)
    return [[groups[i] for i in bin_] for bin_ in found]


def bins(
    pieces: Sequence[Sequence[int]], *, groups_per_forward: int, shared_prefix: bool = True, limit: int | None = None
) -> list[list[int]]:
    """Indices of groups that `cut` puts into one micro-batch, the largest first, each into the first that has room.

    pieces: of each group (`pieces_of`).
    """
    if not pieces:
        return []  # this process has none of the step's rows
    sizes = [grid_tokens(one, shared_prefix=shared_prefix) for one in pieces]
    budget = groups_per_forward * max(sizes)
    if limit is not None:
        budget = min(budget, limit)
    members: list[list[int]] = []
    held: list[list[int]] = []
    for item in sorted(range(len(sizes)), key=lambda i: -sizes[i]):
        joined = ([*there, *pieces[item]] for there in held)
        # what is too large without padding need not be laid out
        fits = (sum(all) <= budget and grid_tokens(all, shared_prefix=shared_prefix) <= budget for all in joined)
        place = next((place for place, does in enumerate(fits) if does), None)
        if place is None:
            members.append([item])
            held.append(list(pieces[item]))
        else:
            members[place].append(item)
            held[place] += pieces[item]
    return sorted((sorted(items) for items in members), key=lambda items: items[0])


def pieces_of(group: Group, *, shared_prefix: bool) -> list[int]:
    """Tokens of what a group and its companions put into a grid: a row each with a shared prefix, else one of every
    prompt + response."""
    members = [group, *group.companions]
    if shared_prefix:
        return [prefix.num_fed(member) for member in members]
    return [len(member.prompt_ids) + len(response) for member in members for response in member.responses]


def grid_tokens(pieces: Sequence[int], *, shared_prefix: bool) -> int:
    """Tokens that a forward of these pieces computes, padding included: rows of a grid × the longest piece."""
    longest = max(pieces, default=0)
    rows = len(first_fit_decreasing(list(pieces), longest)) if shared_prefix else len(pieces)
    return rows * longest


def tokens_in_grid(groups: Sequence[Group], *, shared_prefix: bool) -> int:
    """Tokens that a forward computes for these groups, padding included."""
    pieces = [piece for group in groups for piece in pieces_of(group, shared_prefix=shared_prefix)]
    return grid_tokens(pieces, shared_prefix=shared_prefix)


def told(micro_batches: Sequence[Sequence[Group]]) -> str:
    """How many groups each has, for people: `2 × 32 + 5`."""
    counts = Counter(map(len, micro_batches))
    return " + ".join(f"{times} × {size}" if times > 1 else str(size) for size, times in sorted(counts.items())[::-1])


@dataclass(kw_only=True)
class Memory:
    """What is known of the memory of a run, kept in `StepSettings`. A `Part` of a checkpoint.

    limit: tokens per micro-batch; None until a step has run out.
    sharded: the engine communicates inside a forward, so that a step cannot be done again.
    any_process: whether a flag is set on any process. gather: lists an object of every process.
    on_new_limit: called with the new limit, and with how many groups this process's micro-batches had and have now.
    advise: what to do when this single group does not fit.
    """

    limit: int | None = None
    sharded: bool = False
    any_process: Callable[[bool], bool] = lambda flag: flag
    gather: Callable[[Any], list[Any]] = lambda thing: [thing]
    on_new_limit: Callable[[int, str, str], None] = lambda limit, before, after: None
    advise: Callable[[Group], str] = lambda group: ""

    def state(self) -> dict[str, int | None]:
        """What `load_state` takes."""
        return {"token_limit": self.limit}

    def load_state(self, state: dict[str, int | None]) -> None:
        """Put back what `state` gave."""
        self.limit = state["token_limit"]


def retry_with_smaller_micro_batches(
    memory: Memory,
    cut_to: Callable[[int | None], list[list[Group]]],
    attempt: Callable[[list[list[Group]]], T],
    *,
    undo: Callable[[], None] = lambda: None,
    shared_prefix: bool,
) -> T:
    """The result of an attempt at a step, which is cut finer until no process runs out of memory.

    cut_to: the step's groups as micro-batches of at most so many tokens. attempt: raises `RanOut`. undo: takes back
    what a failed attempt left. Raises `OutOfMemory` with advice when single groups do not fit.
    """
    while True:
        micro_batches = cut_to(memory.limit)
        random = random_states()
        try:
            return attempt(micro_batches)
        except RanOut as error:
            here = error.here
        if not memory.sharded:  # there the run ends
            undo()
        set_random_states(random)
        gc.collect()
        torch.cuda.empty_cache()
        _lower_limit(memory, micro_batches, here=here, shared_prefix=shared_prefix)
        assert memory.limit is not None
        memory.on_new_limit(memory.limit, told(micro_batches), told(cut_to(memory.limit)))


def retry_in_this_process(
    memory: Memory,
    cut_to: Callable[[int | None], list[list[Group]]],
    attempt: Callable[[list[list[Group]]], T],
    *,
    shared_prefix: bool,
) -> T:
    """The result of work that every process does by itself, such as scoring, cut finer until it does not run out.

    cut_to, shared_prefix: as of `retry_with_smaller_micro_batches`. Raises `OutOfMemory` with advice when single groups
    do not fit.
    """
    mine = Memory(limit=memory.limit, sharded=memory.sharded, on_new_limit=memory.on_new_limit, advise=memory.advise)
    result = retry_with_smaller_micro_batches(
        mine,
        cut_to,
        lambda micro_batches: raising_everywhere(mine, lambda: attempt(micro_batches)),
        shared_prefix=shared_prefix,
    )
    memory.limit = mine.limit
    return result


class RanOut(Exception):
    """Some process ran out of memory. here: this one."""

    def __init__(self, here: bool) -> None:
        super().__init__("out of memory")
        self.here = here


def raising_everywhere(memory: Memory, work: Callable[[], T]) -> T:
    """The result of work without collectives. Raises `RanOut` in every process when any of them ran out."""
    result, ran_out = _tried(work)
    if memory.sharded and ran_out:
        raise RanOut(True)
    if not memory.sharded and memory.any_process(ran_out):
        del result
        raise RanOut(ran_out)
    return result  # type: ignore[return-value]


def _tried(work: Callable[[], T]) -> tuple[T | None, bool]:
    """(result, False), or (None, True) when it ran out. Nothing of the failed work is kept alive by its traceback."""
    try:
        return work(), False
    except RuntimeError as error:
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
    return None, True


def _lower_limit(memory: Memory, micro_batches: list[list[Group]], *, here: bool, shared_prefix: bool) -> None:
    """Agree on the next lower limit of all processes that ran out. Raises `OutOfMemory` where there is none.

    here: whether this process did.
    """
    finer = None if memory.sharded else finer_limit(micro_batches, shared_prefix=shared_prefix)
    limits = [finer] if memory.sharded else [limit for ran_out, limit in memory.gather((here, finer)) if ran_out]
    known = [limit for limit in limits if limit is not None]
    if len(known) < len(limits):
        every = [group for groups in micro_batches for group in groups]
        longest = max(every, key=lambda group: tokens_in_grid([group], shared_prefix=shared_prefix))
        raise OutOfMemory(memory.advise(longest))
    memory.limit = min(known)


def finer_limit(micro_batches: list[list[Group]], *, shared_prefix: bool) -> int | None:
    """Half the tokens of the largest micro-batch of several groups; None where every group is alone already."""
    sizes = [tokens_in_grid(groups, shared_prefix=shared_prefix) for groups in micro_batches if len(groups) > 1]
    return max(sizes) // 2 if sizes else None
