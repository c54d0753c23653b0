"""Two processes, one of which runs out of memory: neither waits for the other for ever, and the curve stays."""

import os
import socket
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from accelerate import PartialState

from tests.training.allocator import room_for
from tests.training.runs import curve, lines, pairs, run

WORLD = 2
OPTIONS = {"max_steps": 3, "gradient_accumulation_steps": 1, "use_cpu": True}


def process(rank: int, folder: str, model: str, port: int, room: float, objective: str) -> None:
    """One process of a run; the last one has less room."""
    os.environ |= {
        "RANK": str(rank),
        "LOCAL_RANK": str(rank),
        "WORLD_SIZE": str(WORLD),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(port),
        "ACCELERATE_USE_CPU": "true",
    }
    torch.set_num_threads(1)
    with room_for(room if rank == 1 else float("inf")) as allocator:
        run(
            Path(folder) / "run",
            Path(model),
            pairs(12),
            per_device_train_batch_size=2,
            objective=objective,
            **OPTIONS,
        )
    state = PartialState()
    assert state.num_processes == WORLD and str(state.distributed_type) == "DistributedType.MULTI_CPU"
    torch.save({"ran_out": allocator.ran_out, "served": allocator.served}, Path(folder) / f"{rank}.pt")
    dist.destroy_process_group()


def port_that_is_free() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


@pytest.mark.parametrize("objective", ["dpo", "aot"])
def test_one_process_that_runs_out_takes_the_other_along(tiny_model, tmp_path, objective):
    model, free_port = str(tiny_model("llava")), port_that_is_free()
    with room_for(float("inf")) as enough:
        run(tmp_path / "one", Path(model), pairs(12), per_device_train_batch_size=4, objective=objective, **OPTIONS)
    # a process holds half of these rows; one row and a half fit
    room = max(enough.served) * 3 // 8
    context = torch.multiprocessing.get_context("spawn")
    started = [
        context.Process(target=process, args=(rank, str(tmp_path), model, free_port, room, objective))
        for rank in range(WORLD)
    ]
    for one in started:
        one.start()
    for one in started:
        one.join(timeout=240)
    assert [one.exitcode for one in started] == [0, 0]
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(WORLD))
    assert first["ran_out"] == 0 and second["ran_out"] >= 1
    assert max(second["served"]) <= room
    events = [line for line in lines(tmp_path / "run") if line.get("event") == "out of memory"]
    assert len(events) >= 1
    for name in ("loss", "grad_norm", "rewards/margins"):
        assert curve(tmp_path / "run", name) == pytest.approx(curve(tmp_path / "one", name), rel=1e-5, abs=1e-5), name
