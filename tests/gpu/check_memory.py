"""A CUDA device that really runs out of memory in the middle of a step: the step is cut finer, the curve stays."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.training.runs import curve, lines, pairs, run

STEPS = {"max_steps": 3, "per_device_train_batch_size": 64, "dataloader_drop_last": True}


def test_a_step_that_runs_out_is_cut_and_keeps_its_curve(
    tmp_path: Path, tiny_model: Callable[[str], Path], device: str
) -> None:
    if device != "cuda":
        pytest.skip("torch's CPU allocator has no limit; tests/training/test_out_of_memory.py has one made up")
    rows = pairs(192)
    total = torch.cuda.get_device_properties(0).total_memory
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_reserved()
    run(tmp_path / "enough", tiny_model("llava"), rows, **STEPS)
    needed = torch.cuda.max_memory_reserved() - before
    torch.cuda.empty_cache()
    torch.cuda.set_per_process_memory_fraction((before + 0.6 * needed) / total)
    try:
        run(tmp_path / "run", tiny_model("llava"), rows, **STEPS)
    finally:
        torch.cuda.set_per_process_memory_fraction(1.0)
    assert any("token_limit" in name for line in lines(tmp_path / "run") for name in line)
    assert curve(tmp_path / "run") == pytest.approx(curve(tmp_path / "enough"), rel=1e-4, abs=1e-5)
