"""Workers that outlive SIGTERM still end with the process that they read for."""

import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from sightline.data.loader_workers import LONGEST_TEMPORARY, check_temporary_folder
from sightline.errors import UserError

PROGRAM = """
from torch.utils.data import DataLoader
from sightline.data.loader_workers import OutlivesTermination

class Held: pass

held = Held()
held.me = held  # a cycle, as trainers have: only the collector would close the loader
held.loader = DataLoader([1, 2, 3], num_workers=2, persistent_workers=True, worker_init_fn=OutlivesTermination())
print(len(list(held.loader)))
"""


def test_a_process_whose_loader_was_never_closed_ends():
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stdout.strip(), done.stderr) == (0, "3", "")


def test_a_temporary_folder_without_room_for_sockets_is_refused(monkeypatch, tmp_path):
    longest = tmp_path / ("a" * (LONGEST_TEMPORARY - len(bytes(tmp_path)) - 1))
    monkeypatch.setattr(tempfile, "tempdir", str(longest))
    check_temporary_folder(1)
    monkeypatch.setattr(tempfile, "tempdir", f"{longest}a")
    check_temporary_folder(0)
    with pytest.raises(UserError, match="TMPDIR"):
        check_temporary_folder(1)


def test_such_a_folder_has_room_for_the_name_of_a_worker_s_socket():
    with tempfile.TemporaryDirectory(prefix="s") as short:
        folder = Path(short) / ("a" * (LONGEST_TEMPORARY - len(short) - 1)) / "pymp-12345678"
        folder.mkdir(parents=True)
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(folder / "listener-12345678"))
        with socket.socket(socket.AF_UNIX) as listener, pytest.raises(OSError, match="path too long"):
            listener.bind(str(folder / "listener-123456789"))
