"""Calls that may not take longer than they should.

In the main thread a call runs where it is, because functions that users bring (math-verify's among them) set alarms,
which Python allows there only; a second thread sends a signal when the time is up, which also ends a sleep or a read
from a socket. Coroutines, and calls from any other thread, run in a thread of their own, which is left behind when the
time is up.
"""

import asyncio
import inspect
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from traceback import StackSummary
from types import FrameType
from typing import Any

SIGNAL = signal.SIGURG
"""Ignored by default, and no scheduler's or debugger's; alarms stay free for the function that is called."""

REPEAT = 1.0
"""Seconds until the signal is sent again: a bare `except:` may have swallowed the first."""

GRACE = 2.0
"""Seconds that a cancelled coroutine has to end itself."""


class TimeUp(BaseException):
    """The time is up. Not an `Exception`, so that a function's own `except Exception` lets it through.

    where: the stack of the function at that moment.
    """

    def __init__(self, seconds: float, where: StackSummary) -> None:
        super().__init__(f"not done after {seconds:g} seconds")
        self.where = where


class BackgroundCall:
    """A call that has been started in a thread of its own; a coroutine function gets an event loop there."""

    def __init__(self, seconds: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> None:
        self.seconds = seconds
        self.returned: list[Any] = []
        self.raised: list[BaseException] = []
        self.thread = threading.Thread(target=self._run, args=(function, args, kwargs), name="reward", daemon=True)
        self.thread.start()

    def result(self) -> Any:
        """What the call returned, or raised. Raises `TimeUp` when it is not done `seconds` from now."""
        self.thread.join(self.seconds + GRACE)
        if self.raised:
            raise self.raised[0]
        if not self.returned:
            frame = sys._current_frames().get(self.thread.ident or 0)
            raise TimeUp(self.seconds, traceback.extract_stack(frame))
        return self.returned[0]

    def _run(self, function: Callable[..., Any], args: tuple, kwargs: dict) -> None:
        try:
            if is_async(function):
                self.returned.append(asyncio.run(self._within_limit(function, args, kwargs)))
            else:
                self.returned.append(function(*args, **kwargs))
        except BaseException as error:
            self.raised.append(error)

    async def _within_limit(self, function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
        task = asyncio.ensure_future(function(*args, **kwargs))
        done, _ = await asyncio.wait({task}, timeout=self.seconds)
        if not done:
            where = StackSummary.from_list([traceback.extract_stack(frame, 1)[0] for frame in task.get_stack()])
            task.cancel()
            raise TimeUp(self.seconds, where)
        return task.result()


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it gives a coroutine: an `async def`, or an object whose `__call__` is one."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))  # noqa: B004


def call_within(seconds: float, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any:
    """`function(*args, **kwargs)`. Raises `TimeUp` when it takes longer."""
    in_main_thread = threading.current_thread() is threading.main_thread()
    if in_main_thread and not is_async(function):
        return _call_in_main_thread(seconds, function, args, kwargs)
    return BackgroundCall(seconds, function, *args, **kwargs).result()


def _call_in_main_thread(seconds: float, function: Callable[..., Any], args: tuple, kwargs: dict) -> Any:
    main, done = threading.main_thread().ident, threading.Event()
    assert main is not None

    def interrupt(number: int, frame: FrameType | None) -> None:
        if not done.is_set():
            raise TimeUp(seconds, traceback.extract_stack(frame))

    def watch() -> None:
        waiting = seconds
        while not done.wait(waiting):
            signal.pthread_kill(main, SIGNAL)
            waiting = REPEAT

    previous = signal.signal(SIGNAL, interrupt)
    watcher = threading.Thread(target=watch, name="time limit", daemon=True)
    try:
        # in here, too, time may be up: a machine can be suspended while a thread starts
        watcher.start()
        try:
            return function(*args, **kwargs)
        finally:
            done.set()
    finally:
        # also when the signal came just before `done` was set
        done.set()
        if watcher.ident is not None:
            watcher.join()
        signal.signal(SIGNAL, previous)
