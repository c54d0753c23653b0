"""Trains STEPS steps and writes its resident memory: `python -m tests.full.memory_run FOLDER MODEL KIND STEPS`.

memory.json in the folder: [step, MiB] every fiftieth step, after a collection of garbage.
"""

import gc
import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from transformers import TrainerCallback

from sightline.recipe import normalise, structure
from sightline.training.run import train
from tests.training.runs import pairs
from tests.training.test_online import prompts, shortness

EVERY = 50
KINDS: dict[str, dict[str, Any]] = {
    "dpo": {"objective": {"type": "dpo"}, "per_device_train_batch_size": 2},
    "grpo": {
        "objective": {"type": "grpo"},
        "per_device_train_batch_size": 1,
        "sampler": {"type": "transformers", "num_generations": 2, "max_completion_length": 3},
    },
}


class Resident(TrainerCallback):
    """Notes what the process holds."""

    def __init__(self) -> None:
        self.seen: list[tuple[int, float]] = []

    def on_step_end(self, args: Any, state: Any, control: Any, **kwargs: Any) -> None:
        if state.global_step % EVERY == 0:
            gc.collect()
            pages = int(Path("/proc/self/statm").read_text().split()[1])
            self.seen.append((state.global_step, pages * 4096 / 2**20))


def main(folder: Path, model: str, kind: str, steps: int) -> None:
    torch.set_num_threads(1)
    resident = Resident()
    tree = {
        "model": model,
        "output_dir": str(folder / "run"),
        "max_steps": steps,
        "learning_rate": 1e-4,
        "dataloader_num_workers": 0,
        "lora": {"r": 2},
        "layout": "prefix",
        "eval_steps": steps // 8,
        "save_steps": steps // 4,
        "save_total_limit": 1,
        **KINDS[kind],
    }
    rows = (prompts(4), prompts(2)) if kind == "grpo" else (pairs(8), pairs(2, seed=9))
    train(
        structure(normalise(tree)),
        data=rows[0],
        eval_data=rows[1],
        rewards=[shortness] if kind == "grpo" else [],
        callbacks=[resident],
        console=Console(quiet=True),
    )
    (folder / "memory.json").write_text(json.dumps(resident.seen))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]))
