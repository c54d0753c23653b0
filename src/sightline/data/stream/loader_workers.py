"""How the processes start that read rows for a trainer, and how they end."""

import atexit
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import util
from types import FrameType
from typing import Any

from sightline.errors import UserError

END = signal.SIGUSR1
"""What ends a worker, instead of SIGTERM."""

ENDING = 5.0
"""Seconds that a killed process may take from its first closed connection until it is gone."""

FOLDER = "SIGHTLINE_SOCKETS"
"""Set by a launcher: a temporary folder for its processes, which it removes at its end, though it had to kill them."""

LONGEST_TEMPORARY = 107 - len("/pymp-12345678/listener-12345678")
"""Bytes of the temporary folder's path that leave room for the name of a worker's socket (107 on Linux)."""


class FinishesStepOnTermination:
    """What a loader's worker starts with: SIGTERM is left to the process that reads from it.

    Schedulers send the signal to every process; without its workers the trainer could not finish its step. A worker
    ends when its loader does, or when the trainer is gone.
    """

    def __init__(self, start: Callable[[int], None] | None = None) -> None:
        self.start = start
        # Called before multiprocessing's own, which was registered earlier: that one asks by SIGTERM and waits forever.
        atexit.unregister(_end_workers)
        atexit.register(_end_workers)

    def __call__(self, worker: int) -> None:
        trainer, folder = os.getppid(), folder_for_sockets()

        def leave(number: int, frame: FrameType | None) -> None:
            for _ in range(2):  # a socket may come into it meanwhile, once
                shutil.rmtree(folder, ignore_errors=True)
            os._exit(0)

        def leave_if_alone(number: int, frame: FrameType | None) -> None:
            if os.getppid() != trainer:
                leave(number, frame)

        told = sys.excepthook

        def told_unless_alone(kind: type[BaseException], *error: Any) -> None:
            if not (issubclass(kind, ConnectionError | EOFError) and is_gone(trainer)):
                told(kind, *error)  # else nobody is there any more to send to, which is no news

        sys.excepthook = told_unless_alone
        signal.signal(signal.SIGTERM, leave_if_alone)
        signal.signal(END, leave)
        if self.start is not None:
            self.start(worker)


def folder_for_sockets() -> str:
    """Where this process puts the sockets that its tensors leave by: a folder of its own, not its parent's.

    multiprocessing would make one with the first tensor; like that one it is removed where the process ends by itself.
    """
    folder = tempfile.mkdtemp(prefix="pymp-", dir=os.environ.get(FOLDER))
    util.Finalize(None, shutil.rmtree, (folder,), {"ignore_errors": True}, exitpriority=-100)
    multiprocessing.current_process()._config["tempdir"] = folder  # pyright: ignore[reportAttributeAccessIssue]
    return folder


def is_gone(parent: int) -> bool:
    """Whether this process's parent has ended. A killed one closes its connections first and is gone a moment later."""
    until = time.monotonic() + ENDING
    while os.getppid() == parent:
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def check_temporary_folder(num_workers: int) -> None:
    """Raises `UserError` where so many workers could not send what they read: the trainer would wait for ever."""
    folder = tempfile.gettempdir()
    length = len(os.fsencode(folder))
    longest = LONGEST_TEMPORARY - (len(os.fsencode(os.environ.get(FOLDER, folder))) - length)
    if num_workers > 0 and length > longest:
        raise UserError(
            f"The temporary folder {folder!r} has a path of {length} bytes; the processes that read rows put sockets "
            f"into it, whose paths have an end. Set TMPDIR to a folder of at most {longest} bytes, for example "
            "TMPDIR=/tmp."
        )


def _end_workers() -> None:
    """At the end of the trainer's process, for workers of a loader that nobody has closed."""
    for process in multiprocessing.active_children():
        if process.daemon and process.pid is not None:
            os.kill(process.pid, END)
