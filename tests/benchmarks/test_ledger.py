"""A comparison that stops goes on, and never takes a figure of other code for one of this."""

import json
from pathlib import Path

import pytest
from benchmarks.step.case import Case, Measured
from benchmarks.step.growth import line_through
from benchmarks.step.ledger import Ledger, Paused
from benchmarks.step.plan import case_of


class Runs:
    """Counts what was run; every run takes longer than the one before."""

    def __init__(self) -> None:
        self.cases: list[Case] = []

    def __call__(self, case: Case, out: Path) -> Measured:
        self.cases.append(case)
        one = [float(len(self.cases))]
        return Measured(
            wall=one,
            cpu=one,
            waited=one,
            losses=one,
            gradient_norms=one,
            tiles=[7],
            language_tokens=[648],
            memory=1,
            model_bytes=2,
            tiles_a_image=7,
            prompt_tokens=520,
        )


def test_a_run_that_is_done_is_not_run_again(tmp_path):
    runs, case = Runs(), case_of("dpo", "sightline")
    first = Ledger(tmp_path, run=runs).measured("round 0", case)
    assert Ledger(tmp_path, run=runs).measured("round 0", case) == first
    assert len(runs.cases) == 1
    again = Ledger(tmp_path, run=runs).measured("round 1", case)
    assert again != first and len(runs.cases) == 2


def test_runs_of_other_code_do_not_count(tmp_path):
    runs, case = Runs(), case_of("dpo", "trl")
    Ledger(tmp_path, run=runs).measured("round 0", case)
    path = tmp_path / "ledger.jsonl"
    entry = json.loads(path.read_text())
    path.write_text(json.dumps({**entry, "stamp": {**entry["stamp"], "code": "other"}}) + "\n")
    Ledger(tmp_path, run=runs).measured("round 0", case)
    assert len(runs.cases) == 2


def test_it_pauses_between_runs_and_still_tells_what_is_done(tmp_path):
    runs, case = Runs(), case_of("dpo", "compact")
    Ledger(tmp_path, run=runs).measured("round 0", case)
    over = Ledger(tmp_path, minutes=-1, run=runs)
    over.measured("round 0", case)
    with pytest.raises(Paused):
        over.measured("round 1", case)
    assert len(runs.cases) == 1


def test_a_line_through_growth_that_is_linear_explains_all_of_it():
    points = [{"program": "sightline", "tokens": n, "cpu_s": 0.5 + 0.002 * n} for n in (600, 900, 2000)]
    assert line_through(points).startswith("Sightline: 0.50 s + 2.00 ms a token of P + K · C; R² = 1.000")
