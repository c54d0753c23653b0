"""One of two processes, or alone: a run that leaves out a step with NaN, and one that it stops.

`python -m tests.engines.nonfinite FOLDER MODEL ENGINE ROWS_A_PROCESS`. `said-RANK.txt` says what stopped the second.
"""

import dataclasses
import os
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sightline.data.render.render import Renderer
from sightline.errors import RunFailed
from sightline.training.checkpoint import finish
from tests.training.runs import pairs, run

POISONED = "rows:9"


def group(self: Renderer, example: Any, *rest: Any) -> Any:
    """A row whose tokens weigh NaN, in the third step of four rows."""
    made = honest(self, example, *rest)
    if example.id != POISONED:
        return made
    return dataclasses.replace(made, weights=(made.weights[0] * torch.nan, *made.weights[1:]))


honest = Renderer.group


def main(folder: Path, model: Path, engine: str, rows: int) -> None:
    torch.set_num_threads(1)
    finish.draw_curves = lambda *_: []
    Renderer.group = group
    options = {"max_steps": 4, "shuffle": False, "save_steps": 1, "per_device_train_batch_size": rows}
    options |= {"engine": engine, "use_cpu": True, "lora": {"r": 4}}
    run(folder / "left-out", model, pairs(16), **options, guard={"skip_steps": 1})
    try:
        run(folder / "stopped", model, pairs(16), **options)
    except RunFailed as stop:
        (folder / f"said-{os.environ.get('RANK', '0')}.txt").write_text(str(stop))
    if dist.is_initialized():  # nobody leaves while the other still listens
        dist.barrier()
        dist.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3], int(sys.argv[4]))
