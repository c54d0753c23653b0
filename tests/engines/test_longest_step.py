"""Where weights are spread, the longest step is tried first: it leaves no trace, or stops all processes with advice."""

import json
import os
import socket
import subprocess
import sys

import pytest
from safetensors.torch import load_file

from sightline.training.datasets import StepBatches
from sightline.training.distributed.probe import all_steps, fullest
from sightline.training.step.memory import grid_tokens
from tests.training.runs import figures, lines

SECONDS = 900
"""After this much, something hangs."""


def without_the_event(folder):
    return [line for line in figures(folder) if line.get("event") != "longest step"]


def both_processes(*words: str) -> list[subprocess.Popen]:
    """Two processes of a world without a launcher, who would end one when the other ends."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    world = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    shared = os.environ | world | {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1"}
    return [
        subprocess.Popen(
            [sys.executable, "-m", *words],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]


@pytest.mark.parametrize("engine", ["fsdp2", "zero3"])
def test_the_longest_step_is_tried_first_and_leaves_no_trace_or_stops_all_with_advice(tiny_model, tmp_path, engine):
    started = both_processes("tests.engines.longest", str(tmp_path), str(tiny_model("llava")), engine)
    said = [one.communicate(timeout=SECONDS)[1] for one in started]
    assert [one.returncode for one in started] == [2, 2], said[0][-3000:] + said[1][-3000:]

    # the same bits with it as without
    assert without_the_event(tmp_path / "with") == figures(tmp_path / "without")
    assert len([line for line in lines(tmp_path / "with") if "loss" in line]) == 3
    file = "model.safetensors" if engine == "zero3" else "adapter_model.safetensors"
    ours, theirs = (load_file(tmp_path / name / file) for name in ("with", "without"))
    assert ours.keys() == theirs.keys() and all(bool((ours[name] == theirs[name]).all()) for name in ours)

    # it was the longest
    tried = [json.loads((tmp_path / f"tried-{rank}.json").read_text()) for rank in range(2)]
    assert "rows:7" in tried[0]["rows"] + tried[1]["rows"] and all(len(one["rows"]) == 2 for one in tried)
    (event,) = (line for line in lines(tmp_path / "with") if line.get("event") == "longest step")
    assert event["rows"] == 4 and event["tokens"] <= max(one["most"] for one in tried)

    # one of them ran out, and both say why
    told = [line for text in said for line in text.splitlines() if line.startswith("error: ")]
    assert len(told) == 2 and told[0] == told[1]
    assert "longest step of this run, tried before the first one, ran out of memory" in told[0]
    assert f"`engine: {engine}`" in told[0] and "rows:7, has" in told[0] and "start again" in told[0]
    assert "gradient_checkpointing" in told[0] or "per_device_train_batch_size" in told[0]
    assert not any("loss" in line for line in lines(tmp_path / "little"))


def test_the_fullest_step_of_all_passes_is_found():
    lengths = [10, 11, 12, 40, 9, 39, 8, 7, 30]
    every = list(all_steps(StepBatches(len(lengths), 4, seed=3), 7, 2, lengths))
    assert len(every) == 7
    assert sorted(row for step in every[:3] for share in step for row in share) == list(range(9))

    # with room for four a forward holds all of a process's rows, in a grid as long as the longest of them
    def held(share: list[int]) -> int:
        return grid_tokens([lengths[row] for row in share], shared_prefix=True)

    assert max(map(held, fullest(every, lengths, 4))) == max(held(share) for step in every for share in step)
    # with room for one it holds the longest row
    assert any(3 in share for share in fullest(every, lengths, 1))
