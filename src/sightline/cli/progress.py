"""A progress bar for anything that reports (done, total)."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console

from sightline.training.watch.progress import bar


@contextmanager
def counting(console: Console, title: str) -> Iterator[Callable[[int, int], None]]:
    """A bar on the console while the block runs; yields what to call with (done, total)."""
    with bar(console) as progress:
        task = progress.add_task(title, total=None, figures="")
        yield lambda done, total: progress.update(task, completed=done, total=total)
