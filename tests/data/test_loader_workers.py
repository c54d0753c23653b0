"""Workers that outlive SIGTERM still end with the process that they read for."""

import subprocess
import sys

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
