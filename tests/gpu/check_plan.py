"""What `sightline plan` predicts of activations and gradients is what a step takes, on a device."""

import subprocess
import sys

import pytest
from benchmarks.memory import FAMILIES


@pytest.mark.parametrize("size", [0, 1])
@pytest.mark.parametrize("family", FAMILIES)
def test_the_predicted_peak_is_the_measured_one(device: str, family: str, size: int) -> None:
    """Within 10% on CUDA, 20% on a CPU. All three sizes: `python -m benchmarks.memory --device cuda`."""
    command = [sys.executable, "-m", "benchmarks.memory", "--device", device, "--family", family, "--size", str(size)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stdout + ran.stderr
