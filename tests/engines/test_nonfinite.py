"""NaN in one row of one of two processes: both leave the step out or stop, and the row is written down."""

import subprocess
import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from safetensors.torch import load_file

from tests.engines.test_longest_step import SECONDS, both_processes
from tests.training.runs import curve, pairs

PROGRAM = "tests.engines.nonfinite"


@pytest.fixture(scope="module")
def alone(tiny_model, tmp_path_factory):
    folder = tmp_path_factory.mktemp("alone")
    words = [sys.executable, "-m", PROGRAM, str(folder), str(tiny_model("llava")), "auto", "4"]
    subprocess.run(words, check=True, capture_output=True, timeout=SECONDS)
    return folder


def test_a_nan_of_one_process_is_all_processes_business(tiny_model, alone, tmp_path):
    assert_left_out_and_stopped(str(tiny_model("llava")), alone, tmp_path, "ddp", 1, 1e-5)


def assert_left_out_and_stopped(
    model: str, alone: Path, tmp_path: Path, engine: str, written: int, close: float
) -> None:
    """Two processes do as the one of `alone`, to `close`, and write so many of the step's four rows."""
    started = both_processes(PROGRAM, str(tmp_path), model, engine, "2")
    said = [one.communicate(timeout=SECONDS)[1] for one in started]
    assert [one.returncode for one in started] == [0, 0], said[0][-3000:] + said[1][-3000:]

    assert curve(tmp_path / "left-out") == pytest.approx(curve(alone / "left-out"), abs=close)
    assert curve(tmp_path / "left-out")[2] == 0
    ours, theirs = (load_file(one / "left-out" / "adapter_model.safetensors") for one in (tmp_path, alone))
    assert max(float((ours[name] - theirs[name]).abs().max()) for name in theirs) < close

    told = [(tmp_path / f"said-{rank}.txt").read_text() for rank in range(2)]
    assert told[0] == told[1] and f"step 3 is NaN or Inf. {written} of its rows are in" in told[0]
    for run in ("left-out", "stopped"):
        rows = pq.read_table(tmp_path / run / "nonfinite" / "step-3.parquet")
        assert rows.num_rows == written
        assert pairs(16)[9]["chosen"] in str(rows.drop_columns("images").to_pylist())
    assert (tmp_path / "stopped" / "checkpoint-2" / "checkpoint.json").is_file()
    assert len(curve(tmp_path / "stopped")) == 2
