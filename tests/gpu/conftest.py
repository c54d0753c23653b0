"""What stands here runs on one CUDA device (`make test-gpu`). `SIGHTLINE_TEST_DEVICE=cpu` runs what a CPU can, too."""

import os

import pytest
import torch


@pytest.fixture(scope="session")
def device() -> str:
    chosen = os.environ.get("SIGHTLINE_TEST_DEVICE", "cuda")
    if chosen == "cuda" and not torch.cuda.is_available():
        pytest.exit("No CUDA device here. SIGHTLINE_TEST_DEVICE=cpu runs the part that a CPU can.", returncode=2)
    # float32 products in float32: TF32 keeps ten bits, and these tests compare to 1e-4
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return chosen
