"""Where the time of Sightline's step goes, against its FLOP floor: `python -m benchmarks.step.profile [--task grpo]`.

One thread, CPU seconds. The floor of a part is its counted FLOPs over the rate that this machine reaches in matrix
products of the language model's sizes, the best of many, measured in the same process before and after.
"""

import argparse
import os
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch
from torch.utils.data import dataloader
from transformers import TrainerCallback

from benchmarks.step import sightline_program
from benchmarks.step.case import Case
from benchmarks.step.operator_clock import ELSEWHERE, OperatorClock
from benchmarks.step.plan import SETTINGS, case_of
from benchmarks.step.rows import write_rows
from benchmarks.step.shapes import build
from benchmarks.step.smolvlm import SMOLVLM_36M
from sightline.forward import forward
from sightline.training import trainer
from sightline.training.step import micro_batch, step

PARTS = ("data loading", "vision tower", "layout", "reference forward", "policy forward", "head", "objective",
         "backward", ELSEWHERE)  # fmt: skip
KINDS = {
    "matmul": ("aten.mm", "aten.addmm", "aten.bmm", "aten.convolution"),
    "attention": (
        "aten._scaled_dot_product_flash_attention_for_cpu",
        "aten._scaled_dot_product_flash_attention_for_cpu_backward",
    ),
}


class ClockedSteps(TrainerCallback):
    """Clocks every step but the first and the last, which load no data or twice."""

    def __init__(self, clock: OperatorClock) -> None:
        self.clock = clock
        self.cpu = 0.0

    def on_step_end(self, args: Any, state: Any, *_: Any, **__: Any) -> None:
        if state.global_step == 1:
            self.clock.start()
            self.cpu = time.thread_time()
        elif state.global_step == state.max_steps - 1:
            self.cpu = time.thread_time() - self.cpu
            self.clock.stop()


def book_parts(clock: OperatorClock) -> None:
    """Put the clock around the functions that a step calls."""
    micro_batch.encode = clock.booked("vision tower", micro_batch.encode)
    micro_batch.prefix.lay_out = clock.booked("layout", micro_batch.prefix.lay_out)
    step.reference_log_probs = clock.booked("reference forward", step.reference_log_probs)
    step.policy_log_probs = clock.booked("policy forward", step.policy_log_probs)
    forward.token_log_probs = clock.booked("head", forward.token_log_probs)
    step.part_means = clock.booked("objective", step.part_means)
    iterator = dataloader._BaseDataLoaderIter
    iterator.__next__ = clock.booked("data loading", iterator.__next__)
    original = trainer.train_step

    def train_step(model: Any, groups: Any, objective: Any, *args: Any, backward: Any, **kwargs: Any) -> Any:
        backward = clock.booked("backward", backward)
        return original(model, groups, objective, *args, backward=backward, **kwargs)

    trainer.train_step = train_step


def gemm_rate(case: Case) -> float:
    """FLOP/s of float32 matrix products of the language model's sizes."""
    tokens = case.prompt_tokens + case.responses * case.response_tokens
    sizes = SMOLVLM_36M
    a, b = torch.randn(tokens, sizes.hidden), torch.randn(sizes.hidden, sizes.intermediate)
    best = float("inf")
    for _ in range(50):
        started = time.thread_time()
        a @ b
        best = min(best, time.thread_time() - started)
    return 2 * tokens * sizes.hidden * sizes.intermediate / best


def show(clock: OperatorClock, cpu: float, rate: float, steps: int, num_operators: int) -> None:
    """Print the tables, in milliseconds of CPU time a step."""
    kinds = [*KINDS, "other operators", "Python"]
    by_kind: dict[tuple[str, str], float] = defaultdict(float)
    for (part, name), seconds in clock.seconds.items():
        kind = next((kind for kind, names in KINDS.items() if name in names), "other operators")
        by_kind[part, kind] += 1000 * seconds / steps
    print(f"load {os.getloadavg()[0]:.1f}; {rate / 1e9:.0f} GFLOP/s; {1000 * cpu / steps:.0f} ms of CPU a step")
    columns = [*kinds, "all", "GFLOP", "floor"]
    print(f"{'ms a step':22s}" + "".join(f"{name:>16s}" for name in columns))
    total = defaultdict(float)
    for part in PARTS:
        whole = 1000 * (clock.part_seconds[part] + (cpu if part == ELSEWHERE else 0)) / steps
        row = {kind: by_kind[part, kind] for kind in kinds}
        row["Python"] = whole - sum(row.values())
        gflop = clock.flops[part] / steps / 1e9
        row |= {"all": whole, "GFLOP": gflop, "floor": gflop * 1e12 / rate}
        print(f"{part:22s}" + "".join(f"{row[name]:16.1f}" for name in columns))
        for name in columns:
            total[name] += row[name]
    print(f"{'whole step':22s}" + "".join(f"{total[name]:16.1f}" for name in columns))
    ranked = sorted(clock.seconds.items(), key=lambda item: -item[1])[:num_operators]
    for (part, name), seconds in ranked:
        print(f"{part:22s}{name:58s}{1000 * seconds / steps:10.1f} ms{clock.calls[part, name] / steps:10.0f} calls")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--task", choices=sorted(SETTINGS), default="dpo")
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--operators", type=int, default=30, help="operators to list")
    parser.add_argument("--toy", action="store_true", help="a tiny model: shows that it runs, times nothing")
    options = parser.parse_args()
    torch.set_num_threads(1)
    case = case_of(options.task, "sightline", toy=options.toy, steps=options.steps)
    folder = Path(tempfile.mkdtemp())
    built = build(case.shape, case.grid)
    built.model.save_pretrained(folder / "model")
    built.processor.save_pretrained(folder / "model")
    write_rows(case, built.processor, folder / "rows.parquet")
    sightline_program.prepare(case)
    model, processor = sightline_program.load(case, folder / "model")
    rate = gemm_rate(case)
    clock = OperatorClock()
    steps = ClockedSteps(clock)
    book_parts(clock)
    sightline_program.train(case, model, processor, folder / "rows.parquet", [steps])
    show(clock, steps.cpu, max(rate, gemm_rate(case)), options.steps - 2, options.operators)


if __name__ == "__main__":
    main()
