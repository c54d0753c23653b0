"""SIGTERM, as schedulers send it, to a launcher of two processes: both finish their step and save, and it exits 143."""

import json
import os
import signal
import time

import pytest

from sightline.training.checkpoints import checkpoints, damage
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


@pytest.mark.parametrize("engine", ["ddp", "fsdp2"])
def test_both_processes_save_and_the_launcher_exits_143(tmp_path, tiny_model, source, engine):  # noqa: F811
    shared = set(os.listdir("/dev/shm"))
    recipe, folder = write_recipe(tmp_path / "cut.yaml", tiny_model("llava"), engine, source), tmp_path / "cut"
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
