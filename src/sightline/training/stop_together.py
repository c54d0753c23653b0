"""One process's reason to stop becomes everybody's, although the others may wait for it in a collective for ever.

The reason goes through the store by which the processes found each other, where a thread of each looks for it. When
all have heard, the first one ends. gloo then breaks the others' collectives; NCCL does not, and a process that is still
inside one after some seconds is ended.
"""

import itertools
import os
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

from torch.distributed import distributed_c10d

from sightline.errors import OutOfMemory

SECONDS_BETWEEN_LOOKS = 0.5
PATIENCE = 10.0
"""Seconds that others have to hear, and then to come out of a collective by themselves."""
_counter = itertools.count()


class Reasons:
    """Where processes leave their reason and find those of the others. All of them make as many, in one order.

    heard: the reason, once this process has found it or left it.
    """

    def __init__(self, store: Any, num_processes: int) -> None:
        self.store, self.num_processes = store, num_processes
        self.name = f"sightline/reason-{next(_counter)}"
        self.heard: str | None = None
        self._lock, self._is_counted = threading.Lock(), False

    def leave(self, reason: str) -> None:
        """Leave a reason; the first one counts."""
        self.heard = self.store.compare_set(self.name, "", reason).decode()

    def look(self) -> bool:
        """Whether some process left a reason. Raises `RuntimeError` where the process that keeps the store is gone."""
        if self.heard is None and self.store.check([self.name]):
            self.heard = self.store.get(self.name).decode()
        return self.heard is not None

    def look_within(self, seconds: float) -> bool:
        """Whether a reason is found in this time; the store of a host that fell silent gives no answer, ever."""

        def look() -> None:
            with suppress(RuntimeError):
                self.look()

        asking = threading.Thread(target=look, daemon=True)
        asking.start()
        asking.join(seconds)
        return self.heard is not None

    def wait_until_all_know(self) -> None:
        """Called by whoever has heard; returns when all have, or after `PATIENCE`."""
        end = time.monotonic() + PATIENCE
        with suppress(RuntimeError):  # the store is gone: its process has heard
            with self._lock:
                known = self.store.add(f"{self.name}/known", 0 if self._is_counted else 1)
                self._is_counted = True
            while known < self.num_processes and time.monotonic() < end:
                time.sleep(SECONDS_BETWEEN_LOOKS / 5)
                known = self.store.add(f"{self.name}/known", 0)


@contextmanager
def stopping_together(num_processes: int) -> Iterator[None]:
    """Within, `OutOfMemory` of one process is raised in every other too, or ends it with exit code 2."""
    reasons = Reasons(distributed_c10d._get_default_store(), num_processes)
    left = threading.Event()
    watcher = threading.Thread(target=_watch, args=(reasons, left), daemon=True)
    watcher.start()
    try:
        yield
    except OutOfMemory as error:
        reasons.leave(str(error))
        reasons.wait_until_all_know()
        raise OutOfMemory(reasons.heard) from None
    except RuntimeError:
        # perhaps a collective that broke because another process has left it
        if not reasons.look_within(PATIENCE):
            raise
        reasons.wait_until_all_know()
        raise OutOfMemory(reasons.heard) from None
    finally:
        left.set()
        watcher.join(timeout=2 * SECONDS_BETWEEN_LOOKS)


def _watch(reasons: Reasons, left: threading.Event) -> None:
    try:
        while not reasons.look():
            if left.wait(SECONDS_BETWEEN_LOOKS):
                return
    except RuntimeError:  # nobody can leave a reason any more
        return
    reasons.wait_until_all_know()
    if left.wait(PATIENCE):
        return
    if os.environ.get("RANK") == "0":
        print(f"error: {reasons.heard}", file=sys.stderr, flush=True)
    os._exit(2)
