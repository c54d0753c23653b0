"""Map a function over batches in several processes, in order, reading only a little ahead of what is used."""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

BATCH = 32
"""Items that are sent to a process at once."""


def map_in_processes(function: Callable[[Item], Result], items: Iterable[Item], num_processes: int) -> Iterator[Result]:
    """`map(function, items)`, in order; with one process here, else in forked ones. Memory is that of a few batches."""
    if num_processes <= 1:
        yield from map(function, items)
        return
    batches = _batches(items)
    with ProcessPoolExecutor(num_processes, mp_context=multiprocessing.get_context("fork")) as pool:
        pending: deque[Any] = deque()
        for batch in itertools.islice(batches, 2 * num_processes):
            pending.append(pool.submit(_apply, function, batch))
        while pending:
            results = pending.popleft().result()
            following = next(batches, None)
            if following is not None:
                pending.append(pool.submit(_apply, function, following))
            yield from results


def _batches(items: Iterable[Item]) -> Iterator[list[Item]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch


def _apply(function: Callable[[Item], Result], batch: list[Item]) -> list[Result]:
    return [function(item) for item in batch]
