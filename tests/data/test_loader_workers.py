"""Workers that outlive SIGTERM still end with the process that they read for."""

import os
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from sightline.data.stream.loader_workers import FOLDER, LONGEST_TEMPORARY, check_temporary_folder
from sightline.errors import UserError

PROGRAM = """
import multiprocessing, sys, time
from torch.utils.data import DataLoader
from sightline.data.stream.loader_workers import FinishesStepOnTermination

class Held: pass

held = Held()
held.me = held  # a cycle, as trainers have: only the collector would close the loader
held.loader = DataLoader([1, 2, 3], num_workers=2, persistent_workers=True, worker_init_fn=FinishesStepOnTermination())
print(len(list(held.loader)), *(worker.pid for worker in multiprocessing.active_children()), flush=True)
time.sleep(float(sys.argv[1]))
"""

BROKEN = """
import os, sys, threading, time
from sightline.data.stream import loader_workers

loader_workers.ENDING = {ending}
if os.fork():
    os.wait() if {stays} else time.sleep(0.5)  # a killed process closes its connections first, and is gone later
    os._exit(0)
loader_workers.FinishesStepOnTermination()(0)
try:
    raise {error}("broken")
except Exception:
    sys.excepthook(*sys.exc_info())
"""


@pytest.mark.parametrize(
    ("ending", "error", "told"),
    [
        (60, "ConnectionResetError", False),
        (60, "EOFError", False),
        (0.0, "ConnectionResetError", True),
        (60, "ValueError", True),
    ],
)
def test_a_worker_says_nothing_of_a_connection_that_broke_because_its_trainer_is_going(ending, error, told):
    program = BROKEN.format(ending=ending, error=error, stays=told)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout, f"{error}: broken" in done.stderr) == (0, "", told)
    assert told or done.stderr == ""


@pytest.fixture
def temporary() -> Iterator[Path]:
    """A folder with a short path."""
    with tempfile.TemporaryDirectory(prefix="s") as folder:
        yield Path(folder)


def started(temporary: Path, seconds: int) -> subprocess.Popen:
    """A trainer that reads with two workers, and stays for so long."""
    environment = os.environ | {"TMPDIR": str(temporary), "PYTHONPATH": os.pathsep.join(sys.path)}
    words = [sys.executable, "-c", PROGRAM, str(seconds)]
    return subprocess.Popen(words, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_a_process_whose_loader_was_never_closed_ends_and_leaves_nothing(temporary):
    trainer = started(temporary, 0)
    said, complained = trainer.communicate(timeout=300)
    assert (trainer.returncode, said.split()[0], complained) == (0, "3", "")
    assert list(temporary.iterdir()) == []


def test_workers_of_a_killed_trainer_end_and_leave_nothing(temporary):
    trainer = started(temporary, 300)
    assert trainer.stdout is not None
    count, *workers = trainer.stdout.readline().split()
    assert count == "3" and len(workers) == len(list(temporary.glob("pymp-*/listener-*"))) == 2
    handles = [os.pidfd_open(int(worker)) for worker in workers]
    trainer.kill()
    trainer.wait()
    for handle in handles:
        with suppress(ProcessLookupError):  # it has ended by itself
            signal.pidfd_send_signal(handle, signal.SIGTERM)
        os.close(handle)
    trainer.communicate(timeout=300)  # until all workers have closed its pipes
    assert list(temporary.iterdir()) == []


def test_a_temporary_folder_without_room_for_sockets_is_refused(monkeypatch, tmp_path):
    longest = tmp_path / ("a" * (LONGEST_TEMPORARY - len(bytes(tmp_path)) - 1))
    monkeypatch.setattr(tempfile, "tempdir", str(longest))
    check_temporary_folder(1)
    monkeypatch.setattr(tempfile, "tempdir", f"{longest}a")
    check_temporary_folder(0)
    with pytest.raises(UserError, match=f"TMPDIR to a folder of at most {LONGEST_TEMPORARY} bytes"):
        check_temporary_folder(1)
    monkeypatch.setattr(tempfile, "tempdir", str(longest))
    monkeypatch.setenv(FOLDER, str(longest / "sightline-1"))
    with pytest.raises(UserError, match=f"at most {LONGEST_TEMPORARY - len('/sightline-1')} bytes"):
        check_temporary_folder(1)


def test_such_a_folder_has_room_for_the_name_of_a_worker_s_socket():
    with tempfile.TemporaryDirectory(prefix="s") as short:
        folder = Path(short) / ("a" * (LONGEST_TEMPORARY - len(short) - 1)) / "pymp-12345678"
        folder.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "listener-12345678"))
        with socket.socket(socket.AF_UNIX) as listener, pytest.raises(OSError, match="path too long"):
            listener.bind(str(folder / "listener-123456789"))
