"""Metrics of a step: sums and counts until the step is whole, then one number each; and the file they go to."""

import json
from collections import defaultdict
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments


class Means:
    """Running (sum, count) by name, so that an average over micro-batches and processes is the true average."""

    def __init__(self) -> None:
        self.sums: dict[str, list[Tensor]] = defaultdict(list)
        self.counts: dict[str, list[Tensor]] = defaultdict(list)

    def add(self, metrics: Mapping[str, tuple[Tensor | float, Tensor | float]]) -> None:
        """Take in (sum, count) pairs; tensors stay where they are, so nothing waits for the device."""
        for name, (total, count) in metrics.items():
            self.sums[name].append(torch.as_tensor(total).detach().double())
            self.counts[name].append(torch.as_tensor(count).detach().double())

    def totals(self) -> dict[str, tuple[float, float]]:
        """(sum, count) of each name in this process."""
        return {
            name: (float(torch.stack([t.cpu() for t in self.sums[name]]).sum()),
                   float(torch.stack([t.cpu() for t in self.counts[name]]).sum()))
            for name in self.sums
        }  # fmt: skip

    def clear(self) -> None:
        """Start anew."""
        self.sums.clear()
        self.counts.clear()


def averages(totals: list[dict[str, tuple[float, float]]]) -> dict[str, float]:
    """The averages over the totals of all processes. A name that counted nothing has no average and is left out."""
    names = dict.fromkeys(name for one in totals for name in one)
    result = {}
    for name in names:
        total = sum(one[name][0] for one in totals if name in one)
        count = sum(one[name][1] for one in totals if name in one)
        if count > 0:
            result[name] = total / count
    return result


class MetricsFile(TrainerCallback):
    """Appends every logged step to `OUTPUT/metrics.jsonl`, one JSON object a line."""

    def __init__(self, path: Path, resumed_step: int | None = None) -> None:
        self.path = path
        if resumed_step is not None and path.exists():
            drop_lines_after(path, resumed_step)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: dict[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if logs is not None and state.is_world_process_zero:
            self.write({"step": state.global_step, **logs})

    def write(self, row: dict[str, Any]) -> None:
        """Append one object."""
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def drop_lines_after(path: Path, step: int) -> None:
    """Remove the lines of steps that a resumed run will do again, and a last line cut short by a crash."""
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines():
        try:
            row = json.loads(line)
        except json.JSONDecodeError:
            continue  # the line that was being written when the run died
        if row.get("step", 0) <= step and "train_runtime" not in row:
            kept.append(line)
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")


def device_memory() -> dict[str, float]:
    """Peak memory since start in GiB: allocated on each GPU as `memory/cuda:0`, or resident as `memory/cpu`."""
    gib = 2**30
    if torch.cuda.is_available():
        return {f"memory/cuda:{i}": torch.cuda.max_memory_allocated(i) / gib for i in range(torch.cuda.device_count())}
    import resource

    return {"memory/cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / gib}
