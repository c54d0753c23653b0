"""`python -m benchmarks.step`: the whole comparison. docs/benchmarks.md says how long it takes; `--toy` takes minutes.

Writes benchmarks/out/step.json (the figures), runs.json (every run), step.png and growth.png. Runs that are done are
kept in ledger.jsonl: the same command goes on where the last one stopped.
"""

import argparse
import json
import time
from pathlib import Path
from typing import Any

from benchmarks.step import draw
from benchmarks.step.case import PROGRAMS, Program
from benchmarks.step.figures import MB, Run, Runs, figures_of, table
from benchmarks.step.growth import line_through
from benchmarks.step.ledger import Ledger, Paused, as_record
from benchmarks.step.plan import DEFAULT, SETTINGS, TITLES, case_of, growth_cases
from benchmarks.step.ratios import step_cpu
from benchmarks.step.runner import OUT


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5, help="pairs of timed runs a setting")
    parser.add_argument("--threads", type=int, default=2, help="torch threads of the timed runs")
    parser.add_argument("--only", choices=[*SETTINGS, "growth"], nargs="+", default=DEFAULT, help="some of the parts")
    parser.add_argument("--minutes", type=float, help="start no run after so many minutes; call again to go on")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that are done")
    parser.add_argument("--toy", action="store_true", help="a tiny model: shows that everything runs, times nothing")
    parser.add_argument("--out", type=Path, default=OUT)
    options = parser.parse_args()
    if options.fresh:
        (options.out / "ledger.jsonl").unlink(missing_ok=True)
    ledger = Ledger(options.out, options.minutes)
    started = time.perf_counter()
    try:
        figures = compare(ledger, options)
    except Paused:
        print(f"Paused after {(time.perf_counter() - started) / 60:.0f} minutes; the same command goes on")
        return
    print(f"Written to {options.out} after {(time.perf_counter() - started) / 60:.0f} minutes")
    failed = [one["setting"] for one in figures if not one["gate"]["holds"]]
    if failed:
        raise SystemExit(f"The gate failed for {', '.join(failed)}: the programs did not train alike.")


def compare(ledger: Ledger, options: argparse.Namespace) -> list[dict[str, Any]]:
    """All parts that were asked for; writes what it has after each."""
    figures, runs = [], []
    for setting in (name for name in SETTINGS if name in options.only):
        print(TITLES[setting], flush=True)
        done = runs_of(setting, ledger, options)
        figures.append(figures_of(setting, done))
        runs += done.all()
        print(table(figures[-1]), flush=True)
        write(options.out / "step.json", figures)
        draw.step_plot(figures, options.out / "step.png")
    growth = grow(ledger, options) if "growth" in options.only else []
    if growth:
        print(line_through(growth))
        draw.growth_plot(growth, options.out / "growth.png")
    records = [as_record(run) for run in runs]
    write(options.out / "runs.json", {"machine": ledger.stamp, "runs": records, "growth": growth})
    return figures


def runs_of(setting: str, ledger: Ledger, options: argparse.Namespace) -> Runs:
    """Every run of a setting."""

    def run(purpose: str, program: Program, **changes: Any) -> Run:
        return ledger.measured(f"{setting} {purpose}", case_of(setting, program, toy=options.toy, **changes))

    exact: dict[Program, Run] = {
        program: run("exact", program, steps=8, warmup=2, count_flops=True) for program in PROGRAMS
    }
    timed: list[dict[Program, Run]] = []
    for i in range(options.rounds):
        turned = PROGRAMS[i % len(PROGRAMS) :] + PROGRAMS[: i % len(PROGRAMS)]
        timed.append({program: run(f"round {i}", program, steps=5, threads=options.threads) for program in turned})
    recut = []
    if SETTINGS[setting].groups > 1:
        # TRL one prompt a forward, accumulating; Sightline all prompts of the step in one forward
        recut = [run("recut", "sightline", steps=4, forward_groups=SETTINGS[setting].groups)]
        recut += [run("recut", program, steps=4, forward_groups=1) for program in PROGRAMS[1:]]
    loading = [run("loading", program, steps=8, threads=options.threads, workers=2) for program in PROGRAMS[:2]]
    return Runs(exact=exact, timed=timed, recut=recut, loading=loading)


def grow(ledger: Ledger, options: argparse.Namespace) -> list[dict[str, Any]]:
    """CPU seconds of one thread over K and over P, for every program."""
    print("Growth: a GRPO update of one prompt, one thread", flush=True)
    points = []
    for program in PROGRAMS:
        for axis, value, case in growth_cases(program, toy=options.toy):
            _, measured = ledger.measured(f"growth over {axis}", case)
            tokens = case.prompt_tokens + case.responses * case.response_tokens
            point = {"cpu_s": step_cpu(case, measured), "memory_mb": measured.memory / MB, "tokens": tokens}
            points.append({"program": program, "axis": axis, "value": value, **point})
    return points


def write(path: Path, content: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    main()
