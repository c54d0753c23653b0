"""SIGTERM while training: the step is finished, a checkpoint written, and the process ends with 143."""

import signal
import threading
from types import FrameType
from typing import Any


class Termination:
    """Within, SIGTERM is noted instead of ending the process; only Python's main thread can do so."""

    def __init__(self) -> None:
        self.asked = False
        self._before: Any = None

    def __enter__(self) -> "Termination":
        if threading.current_thread() is threading.main_thread():
            self._before = signal.signal(signal.SIGTERM, self._note)
        return self

    def __exit__(self, *error: object) -> None:
        if self._before is not None:
            signal.signal(signal.SIGTERM, self._before)

    def _note(self, number: int, frame: FrameType | None) -> None:
        self.asked = True
