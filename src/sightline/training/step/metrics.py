"""Metrics of a step: sums and counts until the step is whole, then one number each; and the file they go to."""

import json
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import TrainerState

from sightline.training.checkpoint.files import InCheckpoint, explain_unreadable, step_of, to_disk
from sightline.training.checkpoint.run_folder import explain_disk_errors

LENGTH = "metrics_length.json"


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

    def take(self, other: "Means") -> None:
        """Take in all that another one holds."""
        for name in other.sums:
            self.sums[name] += other.sums[name]
            self.counts[name] += other.counts[name]

    def totals(self) -> dict[str, tuple[float, float]]:
        """(sum, count) of each name in this process: one copy from the device for all of them."""
        kept = [self.sums[name] for name in self.sums] + [self.counts[name] for name in self.sums]
        numbers = iter(read_numbers([value for values in kept for value in values]))
        # in float64 on the host, whatever the device
        summed = [float(torch.tensor([next(numbers) for _ in values], dtype=torch.float64).sum()) for values in kept]
        return {name: (summed[i], summed[len(self.sums) + i]) for i, name in enumerate(self.sums)}

    def mark(self) -> dict[str, int]:
        """How much is taken in so far, by name."""
        return {name: len(values) for name, values in self.sums.items()}

    def forget_since(self, mark: dict[str, int]) -> None:
        """Drop what was taken in since then."""
        for name in list(self.sums):
            for kept in (self.sums, self.counts):
                kept[name] = kept[name][: mark.get(name, 0)]
                if not kept[name]:
                    del kept[name]

    def state(self) -> dict[str, tuple[list[Tensor], list[Tensor]]]:
        """Everything taken in, to go on from."""
        return {name: (list(self.sums[name]), list(self.counts[name])) for name in self.sums}

    def load_state(self, state: dict[str, tuple[list[Tensor], list[Tensor]]]) -> None:
        """Put back what `state` gave."""
        self.clear()
        for name, (sums, counts) in state.items():
            self.sums[name], self.counts[name] = sums, counts

    def clear(self) -> None:
        """Start anew."""
        self.sums.clear()
        self.counts.clear()


def read_numbers(values: Sequence[Tensor | float]) -> list[float]:
    """The values of tensors of one element and of numbers: all that are on a device in one copy."""
    away = [value for value in values if isinstance(value, Tensor) and value.device.type != "cpu"]
    copied = iter(torch.stack([one.detach().reshape(()).double() for one in away]).tolist() if away else [])
    return [next(copied) if isinstance(v, Tensor) and v.device.type != "cpu" else float(v) for v in values]


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


class MetricsFile(InCheckpoint):
    """Appends every logged step to `OUTPUT/metrics.jsonl`, one JSON object a line.

    checkpoint: what the run resumes from; later lines are removed, since their steps are done again. say: shows the
    user a sentence about lines that are missing.
    """

    def __init__(self, path: Path, checkpoint: Path | None = None, say: Callable[[str], None] = print) -> None:
        self.path = path
        missing = None if checkpoint is None else cut_back(path, checkpoint)
        if missing is not None:
            say(missing)

    def save_into(self, checkpoint: Path) -> None:
        """How long the file is now, and that this much of it is on the disk."""
        length = self.path.stat().st_size if self.path.exists() else 0
        (checkpoint / LENGTH).write_text(json.dumps({"bytes": length}), encoding="utf-8")
        if length:
            to_disk(self.path)

    def on_log(self, args: Any, state: TrainerState, control: Any, logs: Any = None, **kwargs: Any) -> None:
        if logs is not None and state.is_world_process_zero:
            self.write({"step": state.global_step, **logs})

    def write(self, row: dict[str, Any]) -> None:
        """Append one object."""
        with explain_disk_errors(self.path.parent), self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(row) + "\n")


def cut_back(path: Path, checkpoint: Path) -> str | None:
    """Make the file of metrics what it was when the checkpoint was written; a sentence where lines are missing."""
    step = step_of(checkpoint)
    with explain_unreadable(checkpoint):
        length = int(json.loads((checkpoint / LENGTH).read_text(encoding="utf-8"))["bytes"])
    elsewhere = checkpoint.resolve().parent != path.resolve().parent
    if not path.exists():
        source = checkpoint.parent / path.name
        where = f"are in {source}" if elsewhere and source.is_file() else "are lost"
        return f"{path} is not there: it begins anew after step {step}, and the figures up to then {where}."
    content = path.read_bytes()
    if not elsewhere and content[:length].endswith(b"\n") and length <= len(content):
        os.truncate(path, length)
        return None
    # a checkpoint of another folder, or a file that a power cut or a user shortened: whole lines up to the step
    kept, last = [], 0
    for line in content.decode("utf-8", errors="replace").splitlines():
        try:
            row = json.loads(line)
            here = int(row.get("step", 0))
        except (ValueError, AttributeError, TypeError, RecursionError):
            continue  # the line that was being written when the run died
        if here <= step and "train_runtime" not in row:
            kept.append(line)
            last = max(last, here)
    path.write_text("".join(line + "\n" for line in kept), encoding="utf-8")
    if elsewhere:
        return None
    return (
        f"{path} is not what it was when {checkpoint.name} was written ({len(content):,} bytes, {length:,} then). Its "
        f"whole lines are kept, the last of step {last}; figures of steps up to {step} may be lost."
    )


def device_memory() -> dict[str, float]:
    """Peak memory since start in GiB: allocated on each GPU as `memory/cuda:0`, or resident as `memory/cpu`."""
    gib = 2**30
    if torch.cuda.is_available():
        return {f"memory/cuda:{i}": torch.cuda.max_memory_allocated(i) / gib for i in range(torch.cuda.device_count())}
    import resource

    return {"memory/cpu": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / gib}
