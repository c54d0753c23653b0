"""What becomes of runs: figures, table, plots and the gate, from made-up runs whose ratios are known."""

import argparse
import json
from pathlib import Path

import pytest
from benchmarks.step.__main__ import compare
from benchmarks.step.case import Case, Measured
from benchmarks.step.ledger import Ledger

SECONDS = {"sightline": 2.0, "trl": 8.0, "compact": 6.0}
PASSES = {"sightline": 1, "trl": 4, "compact": 4}


class Rounds:
    """TRL's steps take 8, 10 and 6 seconds in three rounds."""

    def __init__(self) -> None:
        self.begun = 0

    def __call__(self, case: Case, out: Path) -> Measured:
        seconds = SECONDS[case.program]
        if case.threads == 2 and case.workers == 0 and case.program == "trl":
            seconds = (8.0, 10.0, 6.0)[self.begun]
            self.begun += 1
        # the warm-up and the last step are slow, and do not count
        wall = [100.0] * case.warmup + [seconds] * (case.steps - case.warmup - 1) + [100.0]
        return Measured(
            wall=wall,
            cpu=[2 * one for one in wall],
            waited=[one / 100 for one in wall],
            tiles=[7 * case.groups * PASSES[case.program]] * case.steps,
            language_tokens=[1000] * case.steps,
            losses=[0.5] * case.steps,
            gradient_norms=[1.0] * case.steps,
            memory=int(seconds * 100 * 2**20),
            model_bytes=1,
            tiles_a_image=7,
            prompt_tokens=520,
            flops={"all": seconds * 1e9},
            start=[1.0, 2.0],
            way=[3.0, -4.0],
        )


@pytest.fixture
def options(tmp_path):
    return argparse.Namespace(only=["dpo"], rounds=3, threads=2, toy=False, out=tmp_path)


def test_the_table_says_what_was_measured(tmp_path, options, capsys):
    compare(Ledger(tmp_path, run=Rounds()), options)
    (entry,) = json.loads((tmp_path / "step.json").read_text())
    assert (entry["time_vs_trl"], entry["time_spread_vs_trl"]) == (4.0, [3.0, 5.0])
    assert (entry["memory_vs_trl"], entry["memory_spread_vs_trl"]) == (0.25, [0.2, pytest.approx(1 / 3)])
    assert (entry["time_vs_compact"], entry["cpu_vs_compact"], entry["flops_vs_compact"]) == (3.0, 3.0, 3.0)
    assert entry["programs"]["trl"]["tower_passes"] == 4 and entry["gate"]["holds"]
    said = capsys.readouterr().out
    assert "against trl: 4.00x the speed (3.00-5.00, 3 pairs, 2 threads)" in said
    assert "0.25x the memory (0.20-0.33)" in said and "waiting for data with two workers: sightline 1.0%" in said
    assert len(json.loads((tmp_path / "runs.json").read_text())["runs"]) == 3 + 9 + 3 + 2
    assert (tmp_path / "step.png").stat().st_size > 1000


@pytest.mark.parametrize(
    "wrong", [{"losses": [0.51] * 8}, {"gradient_norms": [1.01] * 8}, {"way": [3.0, -4.1]}, {"tiles": [4 * 7] * 8}]
)
def test_programs_that_train_otherwise_do_not_pass_the_gate(tmp_path, options, wrong):
    rounds = Rounds()

    def run(case: Case, out: Path) -> Measured:
        measured = rounds(case, out)
        if case.program == "sightline" and case.count_flops:
            for name, values in wrong.items():
                getattr(measured, name)[:] = values
        return measured

    (entry,) = compare(Ledger(tmp_path, run=run), options)
    assert not entry["gate"]["holds"]
