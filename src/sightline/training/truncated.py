"""Rows whose responses `data.max_length` trimmed (`data.on_overlong: truncate`), each counted once."""

from collections.abc import Callable, Iterable
from typing import Any


class TruncatedRows:
    """known: names of rows of all processes → how many of their responses were trimmed, as of the last `gather`."""

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._fresh: dict[str, int] = {}

    def see(self, rows: Iterable[tuple[str, int]]) -> None:
        """Names of trimmed rows that this process read, and how many of their responses were trimmed."""
        self._fresh.update((name, number) for name, number in rows if name not in self.known)

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """All processes together: tell one another of rows that are new since the last time."""
        for fresh in gather(self._fresh):
            self.known |= fresh
        self._fresh = {}

    def state(self) -> dict[str, int]:
        """What `load_state` takes."""
        return {**self.known, **self._fresh}

    def load_state(self, rows: dict[str, int]) -> None:
        """Go on from a checkpoint; the next `gather` tells the others."""
        self.known, self._fresh = {}, dict(rows)

    def sentence(self, max_length: int | None) -> str:
        """What the user is told at the end; empty where nothing was trimmed."""
        if not self.known:
            return ""
        rows = f"{len(self.known):,} rows were" if len(self.known) > 1 else "1 row was"
        return f"{rows} trimmed to `data.max_length` ({max_length:,} tokens); the first: {next(iter(self.known))}"
