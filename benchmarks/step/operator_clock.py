"""CPU seconds and FLOPs of every operator, booked on the part of the step that called it.

torch's profiler takes wall time, which on a shared machine is mostly other people's work. This reads the thread's own
CPU clock around every operator instead; use it with one thread.
"""

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.step.meter import ON_CPU


class OperatorClock(TorchDispatchMode):
    """Books operators between `start` and `stop`. seconds, calls: by (part, operator). flops, part_seconds: by part."""

    def __init__(self) -> None:
        super().__init__()
        self.part = ELSEWHERE
        self.running = False
        self.seconds: dict[tuple[str, str], float] = defaultdict(float)
        self.calls: dict[tuple[str, str], int] = defaultdict(int)
        self.flops: dict[str, float] = defaultdict(float)
        self.part_seconds: dict[str, float] = defaultdict(float)
        self.formulas = FlopCounterMode(display=False, custom_mapping=ON_CPU).flop_registry

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        started = time.thread_time()
        result = func(*args, **kwargs)
        spent = time.thread_time() - started
        packet = func._overloadpacket
        self.seconds[self.part, str(packet)] += spent
        self.calls[self.part, str(packet)] += 1
        if packet in self.formulas:
            self.flops[self.part] += self.formulas[packet](*args, **kwargs, out_val=result)
        return result

    def start(self) -> None:
        self.running = True
        self.__enter__()

    def stop(self) -> None:
        self.__exit__(None, None, None)
        self.running = False

    @contextmanager
    def booking(self, part: str) -> Iterator[None]:
        """Within, operators belong to `part`, and so does the time of the code around them."""
        if not self.running:
            yield
            return
        before, self.part = self.part, part
        started = time.thread_time()
        try:
            yield
        finally:
            spent = time.thread_time() - started
            self.part_seconds[part] += spent
            self.part_seconds[before] -= spent
            self.part = before

    def booked(self, part: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, with what it does booked on a part."""

        def wrapped(*args: Any, **kwargs: Any) -> Any:
            with self.booking(part):
                return function(*args, **kwargs)

        return wrapped


ELSEWHERE = "trainer and optimizer"
