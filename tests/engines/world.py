"""Run by torchrun, or alone: trainings of one engine, one after the other, each in FOLDER/NAME.

`python -m tests.engines.world FOLDER MODEL ENGINE NUMBER NAME…`. `seen-RANK.json` in the folder of a training says
which rows each of its steps saw in this process.
"""

import json
import sys
from pathlib import Path
from typing import Any

import torch
from rich.console import Console
from torch.distributed.tensor import DTensor

from sightline.forward.reference import Reference
from sightline.models.families.find import family_of
from sightline.recipe import normalise, structure
from sightline.training import run, trainer
from sightline.training.checkpoint import finish
from tests.training.runs import pairs
from tests.training.test_online import prompts, shortness

ROWS_A_STEP = 4
NUM_ROWS = 5
"""The last step of a pass has a single row: one of two processes has none."""
DPO: dict[str, Any] = {"objective": {"type": "dpo"}, "eval_steps": 2}
GRPO: dict[str, Any] = {
    "objective": {"type": "grpo", "beta": 0.1},
    "eval_steps": 2,
    "sampler": {"type": "transformers", "num_generations": 4, "max_completion_length": 5, "num_iterations": 2},
}
LORA = {"lora": {"r": 4}}
METHODS: dict[str, dict[str, Any]] = {
    "dpo-lora": {**DPO, **LORA},
    "dpo-full": {**DPO, "lora": None, "evaluation": {"best": "eval_loss"}},
    "dpo-vision": {**DPO, "lora": None, "model": {"freeze_vision": False, "freeze_projector": False}},
    "dpo-micro": {**DPO, **LORA, "gradient_checkpointing": True, "cut": True},
    "aot-lora": {**DPO, **LORA, "objective": {"type": "aot_unpaired"}},
    "grpo-lora": {**GRPO, **LORA},
    "grpo-full": {**GRPO, "lora": None},
}
KINDS = {"ddp": "MULTI_CPU", "fsdp2": "FSDP"}


def rows_of(method: str, count: int, seed: int) -> list[dict[str, Any]]:
    """Pairs or prompts; every second pair without an image, and one much longer than the others."""
    if method.startswith("grpo"):
        return prompts(count)
    rows = pairs(count, seed=seed)
    for row in rows[::2]:
        row["image"] = None
    rows[-1]["chosen"] += " fox" * 40
    return rows


def assert_copy_is_sharded(reference: Any) -> None:
    """No process holds all of a language model that is only compared with."""
    if isinstance(reference, Reference) and reference.mode == "frozen-copy":
        language = family_of(reference.model).model.get_decoder()
        assert all(isinstance(weight, DTensor) for weight in language.parameters())


def train(folder: Path, model: str, engine: str, number: int, method: str, **changes: Any) -> None:
    """One training of `method` in this world."""
    tree = {
        "output_dir": str(folder),
        "max_steps": 4,
        "learning_rate": 1e-3,
        "dataloader_num_workers": 0,
        "use_cpu": True,
        "layout": "prefix",
        "engine": engine if number > 1 else "auto",
        **METHODS[method],
        **changes,
    }
    tree["model"] = {"name": model, **tree.get("model", {})}
    # a micro-batch of one group: processes have different numbers of them
    split = {"gradient_accumulation_steps": ROWS_A_STEP // number} if tree.pop("cut", False) else {}
    tree |= {"per_device_train_batch_size": 1 if split else ROWS_A_STEP // number, **split}
    seen: list[list[str]] = []
    original = trainer.train_step

    def watched(policy: Any, groups: Any, *args: Any, **kwargs: Any) -> Any:
        assert number == 1 or torch.distributed.get_world_size() == number
        seen.append([group.id for group in groups])
        if engine == "fsdp2" and number > 1:
            assert_copy_is_sharded(args[1])
        return original(policy, groups, *args, **kwargs)

    trainer.train_step = watched
    try:
        result = run.train(
            structure(normalise(tree)),
            data=rows_of(method, NUM_ROWS, 0),
            # a single held-out row: the other process has none
            eval_data=rows_of(method, 1 if method.startswith("aot") else 3, 7),
            rewards=[shortness] if method.startswith("grpo") else [],
            console=Console(quiet=True),
        )
    finally:
        trainer.train_step = original
    rank = torch.distributed.get_rank() if number > 1 else 0
    (result.folder / f"seen-{rank}.json").write_text(json.dumps(seen))


def main(folder: Path, model: str, engine: str, number: int, methods: list[str]) -> None:
    torch.set_num_threads(1)
    finish.draw_curves = lambda *_: []  # curves take longer to draw than these runs take to train
    for method in methods:
        train(folder / method, model, engine, number, method)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3], int(sys.argv[4]), sys.argv[5:])
