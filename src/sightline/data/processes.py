"""Map a function over items in several processes, in order, reading only a little ahead of what is used."""

import itertools
import multiprocessing
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from typing import Any

BATCH = 32
"""Items that are sent to a process at once."""

_function: Callable[[Any], Any] | None = None
"""In a worker process: what it applies. Set when it is forked, so that a processor is not sent with every batch."""


def map_in_processes(function: Callable[[Any], Any], items: Iterable[Any], num_processes: int) -> Iterator[Any]:
    """`map(function, items)`, in order; with one process here, else in forked ones. Memory is that of a few batches."""
    if num_processes <= 1:
        yield from map(function, items)
        return
    batches = _batches(items)
    context = multiprocessing.get_context("fork")
    with ProcessPoolExecutor(num_processes, context, initializer=_take, initargs=(function,)) as pool:
        pending = deque(pool.submit(_apply, batch) for batch in itertools.islice(batches, 2 * num_processes))
        while pending:
            results = pending.popleft().result()
            following = next(batches, None)
            if following is not None:
                pending.append(pool.submit(_apply, following))
            yield from results


def _batches(items: Iterable[Any]) -> Iterator[list[Any]]:
    iterator = iter(items)
    while batch := list(itertools.islice(iterator, BATCH)):
        yield batch


def _take(function: Callable[[Any], Any]) -> None:
    global _function
    _function = function


def _apply(batch: list[Any]) -> list[Any]:
    assert _function is not None
    return [_function(item) for item in batch]
