"""Host memory over 2,000 steps of a tiny model: `make full-memory` prints the slope. Some minutes."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

STEPS = 2000
FIRST = 500
"""Before that, caches fill."""
ALLOWED = 2.0
"""KiB a step: what one logged line would take if lines were kept."""


@pytest.mark.parametrize("kind", ["dpo", "grpo"])
def test_host_memory_stays_flat(tmp_path, tiny_model, kind):
    words = [sys.executable, "-m", "tests.full.memory_run", str(tmp_path), str(tiny_model("llava")), kind, str(STEPS)]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(words, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-4000:]
    seen = [(step, size) for step, size in json.loads((tmp_path / "memory.json").read_text()) if step > FIRST]
    steps, sizes = np.array(seen).T
    slope = float(np.polyfit(steps, sizes, 1)[0]) * 1024
    between = f"steps {steps[0]:.0f} to {steps[-1]:.0f}"
    print(f"{kind}, {between}: {sizes[0]:.1f} to {sizes[-1]:.1f} MiB, {slope:+.2f} KiB a step")
    assert slope <= ALLOWED
