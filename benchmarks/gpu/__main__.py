"""`python -m benchmarks.gpu`: one GPU, models of Qwen2.5-VL's 3B and 7B sizes with random weights, bfloat16.

In order of worth: `python -m benchmarks.gpu.exactness` first, then this; 3B before 7B, each entry written as it ends.
MFU counts the products that a program computes, scores behind a mask included: wasted work raises it.

TRL's fused head scores response positions only where Triton is, so there is no third program here. Writes
benchmarks/out/gpu.json. `--toy` runs the whole of it on a CPU with a tiny model, so that it cannot rot.
"""

import argparse
import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any

import torch

from benchmarks.step.case import Case, Measured, Program
from benchmarks.step.plan import SETTINGS
from benchmarks.step.ratios import gate, spread, step_seconds, tower_passes
from benchmarks.step.runner import OUT, measure

PEAKS = {"H100 PCIe": 756e12, "H100": 989e12, "H200": 989e12, "A100": 312e12, "L40S": 362e12, "RTX 4090": 165e12}
"""Dense bfloat16 FLOP/s by a part of the device's name, from the makers' data sheets; the first that fits counts."""

SHAPES = ("qwen2.5-vl-3b", "qwen2.5-vl-7b")
PROGRAMS: tuple[Program, ...] = ("sightline", "trl")


@dataclass(frozen=True, kw_only=True)
class Sizes:
    """What differs between the real thing and the toy."""

    shapes: tuple[str, ...]
    prompt_tokens: int
    response_tokens: int
    device: Any


REAL = Sizes(shapes=SHAPES, prompt_tokens=1100, response_tokens=200, device="cuda")
TOY = Sizes(shapes=("qwen2.5-vl-toy",), prompt_tokens=130, response_tokens=32, device="cpu")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of timed runs a setting")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--settings", nargs="+", choices=("dpo", "grpo"), default=["dpo", "grpo"])
    parser.add_argument("--checkpointing", action="store_true", help="recompute activations, in both programs")
    parser.add_argument(
        "--attention",
        choices=("auto", "sdpa", "eager", "flex_attention"),
        default="auto",
        help="Sightline's `model.attn_implementation`; run once with each and compare (TRL keeps its own)",
    )
    parser.add_argument("--peak", type=float, help="the device's dense bfloat16 FLOP/s, where it is not known here")
    parser.add_argument("--seconds", type=float, default=540.0, help="begin no run that would not end within these")
    parser.add_argument("--toy", action="store_true", help="a tiny model on a CPU")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    sizes = TOY if options.toy else replace(REAL, shapes=tuple(options.shapes))
    options.out.mkdir(parents=True, exist_ok=True)
    began, longest = time.monotonic(), 0.0
    entries: list[dict[str, Any]] = []
    for shape in sizes.shapes:
        for setting in options.settings:
            started = time.monotonic()
            if started - began + longest > options.seconds:
                print(f"  {shape} {setting}: left out, {options.seconds:.0f} s are over", flush=True)
                continue
            entries.append(compare(shape, setting, sizes, options))
            longest = max(longest, time.monotonic() - started)
            print(table(entries[-1]), flush=True)
            # each at once: what comes later may not end
            (options.out / "gpu.json").write_text(json.dumps(entries, indent=1) + "\n")


def case_of(shape: str, setting: str, program: Program, sizes: Sizes, **changes: Any) -> Case:
    """One setting: a whole step in one forward in both programs."""
    return replace(
        SETTINGS[setting],
        program=program,
        shape=shape,
        grid=(1, 1),
        prompt_tokens=sizes.prompt_tokens,
        response_tokens=sizes.response_tokens,
        forward_groups=SETTINGS[setting].groups,
        device=sizes.device,
        in_memory=True,
        threads=1 if sizes.device == "cpu" else 8,
        workers=0 if sizes.device == "cpu" else 2,
        **changes,
    )


def compare(shape: str, setting: str, sizes: Sizes, options: argparse.Namespace) -> dict[str, Any]:
    """One entry of gpu.json: time ratios theirs over ours, memory ratios ours over theirs."""
    same = {"gradient_checkpointing": options.checkpointing, "attention": options.attention}
    counted = {p: run(case_of(shape, setting, p, sizes, steps=4, count_flops=True, **same), options) for p in PROGRAMS}
    # the toy times nothing: its counted runs stand for a round
    rounds = [counted] if options.toy else []
    for i in range(0 if options.toy else options.rounds):
        turned = PROGRAMS[i % 2 :] + PROGRAMS[: i % 2]
        rounds.append({p: run(case_of(shape, setting, p, sizes, steps=6, warmup=2, **same), options) for p in turned})
    times = spread([step_seconds(*one["trl"]) / step_seconds(*one["sightline"]) for one in rounds])
    memories = spread([one["sightline"][1].memory / one["trl"][1].memory for one in rounds])
    apart = gate(counted["sightline"][1], counted["trl"][1])
    device = counted["sightline"][1].device
    return {
        "shape": shape,
        "setting": setting,
        "attention": options.attention,
        "k": SETTINGS[setting].responses,
        "device": device,
        "time_vs_trl": times.median,
        "time_spread_vs_trl": [times.low, times.high],
        "memory_vs_trl": memories.median,
        "loss_difference": apart.loss,
        "alike": apart.holds,
        "tower_passes": tower_passes(*counted["sightline"]),
        "programs": {p: figures(rounds, counted[p], p, options.peak or peak_of(device)) for p in PROGRAMS},
    }


def run(case: Case, options: argparse.Namespace) -> tuple[Case, Measured]:
    return case, measure(case, options.out)


def figures(
    rounds: list[dict[Program, tuple[Case, Measured]]],
    counted: tuple[Case, Measured],
    program: Program,
    peak: float | None,
) -> dict[str, Any]:
    """What one program took. Tokens a second counts every response with its own prompt, K · (P + C) a prompt, whatever
    the program computes. mfu: counted FLOPs over time over the device's peak; None where the peak is not known."""
    seconds = median(step_seconds(*one[program]) for one in rounds)
    case, measured = counted
    tokens = case.groups * case.responses * (case.prompt_tokens + case.response_tokens)
    flops = sum(measured.flops.values())
    return {
        "step_s": seconds,
        "tokens_a_second": tokens / seconds,
        "memory_gb": median(one[program][1].memory for one in rounds) / 2**30,
        "tflop": flops / 1e12,
        "mfu": flops / seconds / peak if peak else None,
        "tower_passes": tower_passes(*counted),
    }


def peak_of(device: str) -> float | None:
    """Dense bfloat16 FLOP/s of a device, by its name."""
    return next((peak for name, peak in PEAKS.items() if name in device), None)


def table(entry: dict[str, Any]) -> str:
    """The entry as text."""
    low, high = entry["time_spread_vs_trl"]
    lines = [
        f"{entry['shape']}, K = {entry['k']}, {entry['device']}: {entry['time_vs_trl']:.2f}x the speed of TRL "
        f"({low:.2f}-{high:.2f}), {entry['memory_vs_trl']:.2f}x the memory; losses within "
        f"{entry['loss_difference']:.1e}"
    ]
    for program, one in entry["programs"].items():
        mfu = "unknown" if one["mfu"] is None else f"{one['mfu']:.1%}"
        lines.append(
            f"  {program:10s}{one['step_s']:8.2f} s{one['tokens_a_second']:9.0f} tokens/s{one['memory_gb']:7.2f} GB "
            f"above the model{one['tflop']:9.3f} TFLOP  MFU {mfu}  tower {one['tower_passes']:.0f}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    # a process that holds no GPU itself: every run has the device to itself
    assert not torch.cuda.is_initialized()
    main()
