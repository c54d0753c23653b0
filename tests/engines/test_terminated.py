"""SIGTERM, as schedulers send it, to a launcher of two processes: both finish their step and save, and it exits 143."""

import json
import os
import signal
import time
from pathlib import Path

from sightline.training.checkpoint.files import checkpoints, damage
from tests.engines.test_lost_process import (
    SECONDS,
    assert_nothing_is_left,
    source,  # noqa: F401  (a fixture)
    start,
    wait_for,
    workers,
    write_recipe,
)
from tests.training.runs import lines


def test_both_processes_save_and_the_launcher_exits_143(tmp_path, tiny_model, source):  # noqa: F811
    assert_saved(tmp_path, str(tiny_model("llava")), source, "fsdp2")


def assert_saved(tmp_path: Path, model: str, source: Path, engine: str) -> None:  # noqa: F811
    """A run that is told to end leaves one whole checkpoint of the step it was in."""
    shared = set(os.listdir("/dev/shm"))
    recipe, folder = write_recipe(tmp_path / "cut.yaml", model, engine, source), tmp_path / "cut"
    cut = start([], recipe, "--nproc-per-node", "2", "--max-steps", "500", "--save-steps", "400")
    wait_for(folder / "metrics.jsonl", cut)
    limit = time.monotonic() + SECONDS
    while not any("loss" in line for line in lines(folder)):
        assert cut.poll() is None and time.monotonic() < limit
        time.sleep(0.05)
    trained = workers(cut.pid, recipe)
    cut.send_signal(signal.SIGTERM)
    _, said = cut.communicate(timeout=SECONDS)
    assert cut.returncode == 143, said[-4000:]
    assert "Traceback" not in said
    assert_nothing_is_left(recipe, shared, trained)
    (checkpoint,) = checkpoints(folder)
    assert damage(checkpoint) is None
    last = json.loads((checkpoint / "trainer_state.json").read_text())["global_step"]
    assert last == max(line["step"] for line in lines(folder) if "loss" in line) < 400
