"""`python -m benchmarks.step`: the whole comparison. docs/benchmarks.md says how long it takes; `--toy` takes minutes.

Writes benchmarks/out/step.json (the figures), runs.json (every run), step.png and growth.png.
"""

import argparse
import json
import os
import platform
import time
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from benchmarks.step import draw
from benchmarks.step.case import PROGRAMS, Case, Program
from benchmarks.step.figures import MB, Run, Runs, figures_of, table
from benchmarks.step.plan import SETTINGS, TITLES, case_of, growth_cases
from benchmarks.step.ratios import step_cpu
from benchmarks.step.runner import OUT, measure


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timed runs a setting")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of the timed runs")
    parser.add_argument("--only", choices=[*SETTINGS, "growth"], nargs="+", help="some of the parts")
    parser.add_argument("--toy", action="store_true", help="a tiny model: shows that everything runs, times nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    parts = options.only or [*SETTINGS, "growth"]
    started = time.perf_counter()
    figures, runs = [], []
    for setting in (name for name in SETTINGS if name in parts):
        print(TITLES[setting], flush=True)
        done = runs_of(setting, options)
        figures.append(figures_of(setting, done))
        runs += done.all()
        print(table(figures[-1]), flush=True)
        write(options.out / "step.json", figures)
        draw.step_plot(figures, options.out / "step.png")
    growth = grow(options) if "growth" in parts else []
    if growth:
        draw.growth_plot(growth, options.out / "growth.png")
    records = [{"case": asdict(case), "measured": asdict(measured)} for case, measured in runs]
    write(options.out / "runs.json", {"machine": machine(), "runs": records, "growth": growth})
    print(f"Written to {options.out} after {(time.perf_counter() - started) / 60:.0f} minutes")
    failed = [one["setting"] for one in figures if not one["gate"]["holds"]]
    if failed:
        raise SystemExit(f"The gate failed for {', '.join(failed)}: the programs did not train alike.")


def runs_of(setting: str, options: argparse.Namespace) -> Runs:
    """Every run of a setting."""

    def run(program: Program, **changes: Any) -> Run:
        case = case_of(setting, program, toy=options.toy, **changes)
        return case, measure(case, options.out)

    exact = {program: run(program, steps=8, warmup=2, count_flops=True) for program in PROGRAMS}
    timed = []
    for i in range(options.rounds):
        turned = PROGRAMS[i % len(PROGRAMS) :] + PROGRAMS[: i % len(PROGRAMS)]
        timed.append({program: run(program, steps=5, threads=options.threads) for program in turned})
    recut = []
    if SETTINGS[setting].groups > 1:
        # TRL one prompt a forward, accumulating; Sightline all prompts of the step in one forward
        recut = [run("sightline", steps=4, forward_groups=SETTINGS[setting].groups)]
        recut += [run(program, steps=4, forward_groups=1) for program in PROGRAMS[1:]]
    loading = [run(program, steps=8, threads=options.threads, workers=2) for program in PROGRAMS[:2]]
    return Runs(exact=exact, timed=timed, recut=recut, loading=loading)


def grow(options: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU seconds of one thread over K and over P, for every program."""
    print("Growth: a GRPO update of one prompt, one thread", flush=True)
    points = []
    for program in PROGRAMS:
        for axis, value, case in growth_cases(program, toy=options.toy):
            points.append({"program": program, "axis": axis, "value": value, **point(case, options.out)})
    return points


def point(case: Case, out: Path) -> dict[str, float]:
    measured = measure(case, out)
    return {"cpu_s": step_cpu(case, measured), "memory_mb": measured.memory / MB}


def machine() -> dict[str, Any]:
    """What the figures depend on besides the code."""
    packages = ("torch", "transformers", "trl", "peft", "accelerate")
    return {
        "cpus": os.cpu_count(),
        "processor": platform.processor() or platform.machine(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in packages},
    }


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
