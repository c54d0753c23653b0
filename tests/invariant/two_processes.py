"""Run by torchrun, or alone: one step of every objective, and short trainings, all left in FOLDER.

python -m tests.invariant.two_processes FOLDER MODEL HYBRID NUMBER

steps-RANK.pt    outcomes by objective, in float64
NAME/            a run's folder
"""

import sys
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from accelerate.utils import DistributedType, gather_object
from torch import nn

from sightline.types import Group
from tests.invariant.steps import case, step
from tests.objectives.every import EVERY
from tests.training.runs import pairs, run

TRAININGS: dict[str, dict[str, Any]] = {
    "kto": {"type": "kto"},
    "aot": {"type": "aot"},
    "mpo": {"type": "mpo", "running_shift": True},
    "sft": {"type": "sft"},
}
"""Objectives that whole trainings show: over batch statistics, a mixture with state, and over tokens."""
WATCHED: dict[str, Any] = {"tasks": ["scenes"], "every": 2, "limit": 12, "best": "scenes/hal"}
"""Scores of a training of the embedded model, in the folder `watched`."""
ROWS, STEPS = 6, 2


class Processes:
    """The processes of this world, as the trainer's settings see them."""

    def __init__(self, state: PartialState) -> None:
        self.state = state

    def share(self, groups: list[Group]) -> list[Group]:
        """This process's part of a step; an uneven one, so that averages over processes would be wrong."""
        cut = len(groups) // 2 + 1
        return groups[:cut] if self.state.process_index == 0 else groups[cut:]

    def settings(self, model: Any) -> dict[str, Any]:
        """Fields of `StepSettings`."""
        return {
            "no_sync": model.no_sync,
            "sum_over_processes": self._sum,
            "gather": self._gather,
            "num_processes": self.state.num_processes,
            "process_index": self.state.process_index,
        }

    def _gather(self, thing: Any) -> list[Any]:
        return gather_object([thing])

    def _sum(self, counts: dict[str, float]) -> dict[str, float]:
        everywhere = self._gather(counts)
        return {name: sum(one[name] for one in everywhere) for name in counts}


def main(folder: Path, model: Path, hybrid: Path, num_processes: int) -> None:
    """hybrid: a model whose layers have a state, for the training in the folder `hybrid`."""
    torch.set_num_threads(1)
    state = PartialState(cpu=True)
    # a world that silently became smaller would make this comparison empty
    assert state.num_processes == num_processes, state
    assert state.distributed_type == (DistributedType.MULTI_CPU if num_processes > 1 else DistributedType.NO), state
    made = case(model, torch.float64)
    wrapped: dict[str, Any] = {}
    if num_processes > 1:
        wrapped = {"model": nn.parallel.DistributedDataParallel(made.policy), "processes": Processes(state)}
    outcomes = {name: step(made, name, groups_per_forward=1 + len(name) % 2, **wrapped) for name in EVERY}
    torch.save({n: vars(outcome) for n, outcome in outcomes.items()}, folder / f"steps-{state.process_index}.pt")
    short: dict[str, Any] = {
        "per_device_train_batch_size": ROWS // num_processes,
        "max_steps": STEPS,
        "use_cpu": True,
    }
    for name, objective in TRAININGS.items():
        run(folder / name, model, pairs(ROWS * STEPS), objective=objective, **short)
    run(folder / "hybrid", hybrid, pairs(ROWS * STEPS), objective={"type": "dpo"}, **short)
    run(folder / "watched", Path("embedded"), pairs(ROWS * STEPS), evaluation=WATCHED, **short)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
