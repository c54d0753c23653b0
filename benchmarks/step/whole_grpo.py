"""`python -m benchmarks.step.whole_grpo`: a whole GRPO step, sampling included, of Sightline and of TRL.

Both sample eight answers of 64 tokens to one prompt from the same random model by their default samplers (TRL:
transformers' `generate`, the prompt once an answer; Sightline: the prompt once), judge them, and update. Writes
benchmarks/out/whole_grpo.json. The samples differ, so there is no gate here; `python -m benchmarks.step` has one.
On a machine that others use, too, `--threads 1 --rounds 1` and its CPU seconds are what to read.
"""

import argparse
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.step.__main__ import write
from benchmarks.step.case import Program
from benchmarks.step.figures import MB, Run
from benchmarks.step.ledger import Ledger, Paused
from benchmarks.step.plan import case_of
from benchmarks.step.ratios import spread, step_cpu, step_seconds
from benchmarks.step.runner import OUT

COMPARED: tuple[Program, ...] = ("sightline", "trl")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3, help="pairs of runs")
    parser.add_argument("--threads", type=int, default=2, help="torch threads")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes; call again to go on")
    parser.add_argument("--toy", action="store_true", help="a tiny model: shows that it runs, times nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    ledger = Ledger(options.out, options.minutes)
    try:
        rounds = [one_round(i, ledger, options) for i in range(options.rounds)]
    except Paused:
        print("Paused; the same command goes on")
        return
    figures = figures_of(rounds)
    write(options.out / "whole_grpo.json", {"machine": ledger.stamp, **figures})
    low, high = figures["time_spread_vs_trl"]
    print(
        f"Sightline {figures['sightline_s']:.2f} s, TRL {figures['trl_s']:.2f} s a step: "
        f"{figures['time_vs_trl']:.2f}x the speed ({low:.2f}-{high:.2f}, {options.rounds} pairs); "
        f"{figures['sightline_cpu_s']:.2f} and {figures['trl_cpu_s']:.2f} CPU seconds: {figures['cpu_vs_trl']:.2f}x; "
        f"{figures['memory_vs_trl']:.2f}x the memory"
    )


def one_round(number: int, ledger: Ledger, options: argparse.Namespace) -> dict[str, Run]:
    """A run of each program, the first one in turn."""
    turned = COMPARED if number % 2 == 0 else COMPARED[::-1]
    runs = {}
    for program in turned:
        case = case_of("grpo-no-kl", program, toy=options.toy, steps=4, threads=options.threads)
        runs[program] = ledger.measured(f"whole step {number}", replace(case, samples=True))
    return runs


def figures_of(rounds: list[dict[str, Run]]) -> dict[str, Any]:
    """Medians over the rounds. The time ratio is theirs over ours, the memory ratio ours over theirs."""
    time = spread([step_seconds(*one["trl"]) / step_seconds(*one["sightline"]) for one in rounds])
    cpu = spread([step_cpu(*one["trl"]) / step_cpu(*one["sightline"]) for one in rounds])
    memory = spread([one["sightline"][1].memory / one["trl"][1].memory for one in rounds])
    seconds = {f"{p}_s": spread([step_seconds(*one[p]) for one in rounds]).median for p in COMPARED}
    seconds |= {f"{p}_cpu_s": spread([step_cpu(*one[p]) for one in rounds]).median for p in COMPARED}
    megabytes = {f"{p}_mb": spread([one[p][1].memory / MB for one in rounds]).median for p in COMPARED}
    return {
        "time_vs_trl": time.median,
        "time_spread_vs_trl": [time.low, time.high],
        "cpu_vs_trl": cpu.median,
        "memory_vs_trl": memory.median,
        **seconds,
        **megabytes,
    }


if __name__ == "__main__":
    main()
