"""One of two processes: a run without the probe, one with it, and one with too little memory for its longest step.

`python -m tests.engines.longest FOLDER MODEL ENGINE`. `tried-RANK.json` says which rows the probe had in this process
and how many tokens its largest forward held. Exits with 2 and the advice on stderr.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist

from sightline.errors import OutOfMemory
from sightline.training import trainer
from sightline.training.checkpoint import finish
from sightline.training.distributed import probe
from tests.training.allocator import room_for
from tests.training.runs import pairs, run

# dropout shows that random numbers are drawn as without the probe, a running shift that the objective's state stays
SHIFTED: dict[str, Any] = {
    "lora": {"r": 4, "dropout": 0.2},
    "objective": {"type": "bco_pair", "running_shift": True},
}
OPTIONS: dict[str, dict[str, Any]] = {"fsdp2": SHIFTED, "zero1": SHIFTED, "zero2": SHIFTED, "zero3": {"lora": None}}


def rows() -> list[dict[str, Any]]:
    """Pairs of which one is much longer than the others."""
    found = pairs(12)
    found[7]["chosen"] += " fox" * 60
    return found


def main(folder: Path, model: Path, engine: str) -> None:
    torch.set_num_threads(1)
    finish.draw_curves = lambda *_: []
    options: dict[str, Any] = {
        **OPTIONS[engine],
        "engine": engine,
        "use_cpu": True,
        "max_steps": 3,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
    }
    run(folder / "without", model, rows(), **options)
    probe.can_run_out = lambda device: True
    tried: list[str] = []
    original = trainer.AlignmentTrainer.try_step

    def watched(self: Any, groups: Any, settings: Any) -> None:
        tried.extend(group.id for group in groups)
        original(self, groups, settings)

    trainer.AlignmentTrainer.try_step = watched
    with room_for(float("inf")) as allocator:
        run(folder / "with", model, rows(), **options)
    most = max(allocator.served)
    (folder / f"tried-{dist.get_rank()}.json").write_text(json.dumps({"rows": tried, "most": most}))
    both: list[int] = [0, 0]
    dist.all_gather_object(both, most)
    # the long row is one process's; that one runs out
    try:
        with room_for(sum(both) / 2, in_backward=engine == "fsdp2"):
            run(folder / "little", model, rows(), **options)
    except OutOfMemory as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
