"""How the processes start that read rows for a trainer."""

import os
import signal
from collections.abc import Callable
from types import FrameType


class OutlivesTermination:
    """What a loader's worker starts with: SIGTERM is left to the process that reads from it.

    Schedulers send the signal to every process; without its workers the trainer could not finish its step. A worker
    ends when its loader does, or when the trainer is gone.
    """

    def __init__(self, start: Callable[[int], None] | None = None) -> None:
        self.start = start

    def __call__(self, worker: int) -> None:
        trainer = os.getppid()

        def unless_alone(number: int, frame: FrameType | None) -> None:
            if os.getppid() != trainer:
                os._exit(0)

        signal.signal(signal.SIGTERM, unless_alone)
        if self.start is not None:
            self.start(worker)
