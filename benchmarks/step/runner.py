"""Starts one process a run, so that no program warms caches, threads or memory for another."""

import os
import subprocess
import sys
import time
from pathlib import Path

from benchmarks.step.case import Case, Measured, read_measured

OUT = Path(__file__).parent.parent / "out"


def measure(case: Case, out: Path = OUT) -> Measured:
    """Run the case in a fresh process and read what it measured. Stops with the run's last lines if it fails."""
    data = out / "data" / f"{data_name(case)}.parquet"
    result = out / "runs" / f"{case.program}-{case.task}-{os.getpid()}.json"
    result.parent.mkdir(parents=True, exist_ok=True)
    log = result.with_suffix(".log")
    model = out / "models" / f"{case.shape}-{case.grid[0]}x{case.grid[1]}"
    if not data.exists():
        start("benchmarks.step.rows", case, [str(model), str(data)], log)
    started = time.perf_counter()
    start("benchmarks.step.worker", case, [str(model), str(data), str(result)], log)
    measured = read_measured(result.read_text())
    counted = measured.wall[case.counted]
    print(
        f"  {case.program:10s}{case.task:6s}K={case.responses:<3d}P={case.prompt_tokens:<5d}{case.threads} threads  "
        f"{sum(counted) / len(counted):7.2f} s a step  {measured.memory / 2**20:6.0f} MB  load {measured.load:.1f}  "
        f"({time.perf_counter() - started:.0f} s)",
        flush=True,
    )
    return measured


def start(module: str, case: Case, arguments: list[str], log: Path) -> None:
    """Run a module on a case, to its end."""
    environment = {
        **os.environ,
        "OMP_NUM_THREADS": str(case.threads),
        "MKL_NUM_THREADS": str(case.threads),
        "TOKENIZERS_PARALLELISM": "false",
        "HF_HUB_OFFLINE": "1",
        "PYTHONWARNINGS": "ignore",
    }
    command = [sys.executable, "-m", module, case.to_json(), *arguments]
    with log.open("w") as lines:
        code = subprocess.run(command, stdout=lines, stderr=subprocess.STDOUT, env=environment, check=False).returncode
    if code != 0:
        raise SystemExit(f"{' '.join(command)}\nfailed:\n{log.read_text()[-3000:]}")


def data_name(case: Case) -> str:
    """Cases that read the same rows share a file."""
    rows, columns = case.grid
    sizes = (case.responses, case.prompt_tokens, rows, columns, case.response_tokens, case.steps * case.groups)
    return "-".join(str(part) for part in (case.task, case.shape, *sizes))
