"""`python -m tests.fakegpu.run LIBRARY CASES OUT`: runs on the device that there is none of, in a process of its own.

CASES is JSON: a list of {name, model, recipe, bf16}. For each: two steps with evaluation and checkpoints, and the same
resumed at step 1, on the device; OUT gets the curves, and what a step asked of the device.
"""

# ruff: isort: skip_file
import json
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any

from tests.fakegpu import device as fake  # before torch

import torch
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import exactness
from benchmarks.step import worker
from benchmarks.step.runner import start
from rich.console import Console
from transformers import TrainerCallback

from sightline.rehearsal import tiny_models
from sightline.training.run import train
from tests.training.runs import lines, pairs, recipe_of
from tests.training.test_online import prompts, shortness


QUIET = Console(quiet=True)


SAVING = (" save_model", " save_checkpoint")
"""Functions that write weights, at a run's end before its last line is logged."""


class CountSteps(TrainerCallback):
    """What each step asked of the device, from its first line to the one that logs."""

    def __init__(self, device: fake.Device) -> None:
        self.device = device
        self.steps: list[dict[str, Any]] = []

    def on_step_begin(self, *_: Any, **__: Any) -> None:
        self.device.forget()
        self.started = time.process_time()

    def on_log(self, *_: Any, logs: Any = None, **__: Any) -> None:
        if not logs or "loss" not in logs:
            return
        now = self.device
        self.steps.append(
            {
                "waits": sum(times for (_, line, _), times in now.waits.items() if not line.endswith(SAVING)),
                "who": [[*line, times] for line, times in now.waits.most_common(60)],
                "kernels": sum(now.kernels.values()),
                "most": now.kernels.most_common(12),
                "flops": now.flops,
                "peak": now.peak,
                "seconds": time.process_time() - self.started,
            }
        )


def figures(folder: Path) -> list[dict[str, Any]]:
    """Logged lines without what measures time and memory."""
    dropped = ("memory/", "seconds/", "train_", "eval_runtime", "eval_samples", "eval_steps")
    return [{k: v for k, v in line.items() if not k.startswith(dropped)} for line in lines(folder) if "loss" in line]


def one(case: dict[str, Any], root: Path, folders: dict[str, Path]) -> dict[str, Any]:
    """A case's curves and counts."""
    model = folders.setdefault(case["model"], root / "models" / case["model"])
    if not model.exists():
        tiny_models.save(case["model"], model)
    bf16, online = case.get("bf16", False), case["recipe"].get("objective", {}).get("type") == "grpo"
    rows = prompts(4) if online else pairs(4)
    asked = {"data": rows, "console": QUIET, "rewards": [shortness] if online else []}
    weights = {"name": str(model), "dtype": "auto" if bf16 else "float32", **case.get("load", {})}
    data = {
        "model": weights,
        "max_steps": 2,
        "logging_steps": 1,
        "save_steps": 1,
        "per_device_train_batch_size": 2,
        **case["recipe"],
    }
    place = root / case["name"]
    with fake.Device(exact=not bf16) as device:
        counter = CountSteps(device)
        recipe = recipe_of(place, model, bf16=bf16, **data)
        train(recipe, callbacks=[counter], **asked)
        found = {"steps": counter.steps, "curve": figures(place), "flash": len(device.flash.calls)}
        if case.get("resumes", True):
            again = dict(data, resume=str(place / "checkpoint-1"), output_dir=str(root / f"{case['name']}-again"))
            train(recipe_of(root / f"{case['name']}-again", model, bf16=bf16, **again), **asked)
            found["resumed"] = figures(root / f"{case['name']}-again")
    if not bf16:
        recipe = recipe_of(root / f"{case['name']}-cpu", model, use_cpu=True, bf16=False, **data)
        train(recipe, **asked)
        found["cpu"] = figures(root / f"{case['name']}-cpu")
    return found


def rehearse(case: dict[str, Any], root: Path, _: dict[str, Path]) -> dict[str, Any]:
    """The benchmark of one GPU: its attention kernels in bfloat16, and one timed run of Sightline, at toy size."""
    toy = replace(gpu.TOY, device="cuda")
    step = gpu.case_of(toy.shapes[0], case["benchmark"], "sightline", toy, steps=3, count_flops=True)
    data, model = root / "rows.parquet", root / "models" / "benchmark"
    start("benchmarks.step.rows", step, [str(model), str(data)], root / "rows.log")
    with fake.Device(exact=False) as device:
        batch = exactness.grid(130, 2, 20)
        errors = exactness.measure(fake.CUDA, torch.bfloat16, batch, (4, 2, 64))
        measured = worker.run(step, model, data)
        return {
            "errors": errors,
            "losses": measured.losses,
            "flash": len(device.flash.calls),
            "memory": measured.memory,
            "flops": sum(measured.flops.values()),
            "device": measured.device,
        }


def main(cases: Path, out: Path) -> None:
    torch.set_num_threads(1)
    found: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folders: dict[str, Path] = {}
        for case in json.loads(cases.read_text()):
            started = time.process_time()
            try:
                work = rehearse if "benchmark" in case else one
                found[case["name"]] = work(case, Path(scratch), folders)
            except Exception:
                found[case["name"]] = {"error": traceback.format_exc()}
            found[case["name"]]["seconds"] = time.process_time() - started
            out.write_text(json.dumps(found, indent=1))


if __name__ == "__main__":
    main(Path(sys.argv[2]), Path(sys.argv[3]))
