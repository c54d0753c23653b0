"""Twenty kills at random moments, DPO and GRPO, each resumed: the same bits as a run left in peace. Some minutes."""

from collections import Counter

import pytest

from tests.faults.test_kills import DPO, GRPO, assert_same_bits, killed

KILLS = 20
PHASES = {"training", "saving", "evaluating"}


@pytest.mark.parametrize(("recipe", "expected"), [(DPO, PHASES), (GRPO, {*PHASES, "rolling out"})], ids=["dpo", "grpo"])
def test_twenty_kills(tmp_path, tiny_model, recipe, expected):
    """A run that ends before all of them were sent is followed by another."""
    spec = {"rows": 9, "kills": KILLS, "seed": 1, "until_killed_so_often": True}
    attempts = killed(tmp_path, tiny_model("llava"), recipe, **spec)
    phases = Counter(one["phase"] for one in attempts if one["killed"])
    runs = sorted(tmp_path.glob("killed*/sightline.json"))
    print(f"{recipe['objective']['type']}: {dict(phases)} over {len(runs)} runs")
    assert sum(phases.values()) == KILLS
    assert set(phases) == expected
    assert sum(one["code"] == 0 for one in attempts) == len(runs) >= 1
    for run in runs:
        assert_same_bits(run.parent, tmp_path / "whole")
