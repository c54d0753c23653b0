"""Twenty kills at random moments, DPO and GRPO, each resumed: the same bits as a run left in peace. Some minutes."""

from collections import Counter

import pytest

from tests.faults.test_kills import DPO, GRPO, assert_same_bits, killed

KILLS = 20
PHASES = {"dpo": {"training", "saving", "evaluating"}, "grpo": {"training", "saving", "evaluating", "rolling out"}}


@pytest.mark.parametrize("recipe", [DPO, GRPO], ids=["dpo", "grpo"])
def test_twenty_kills(tmp_path, tiny_model, recipe):
    """A run that ends before all of them were sent is followed by another."""
    spec = {"rows": 9, "kills": KILLS, "events": 90, "seed": 1, "until_killed_so_often": True}
    attempts = killed(tmp_path, tiny_model("llava"), recipe, **spec)
    phases = Counter(one["phase"] for one in attempts if one["killed"])
    runs = sorted(tmp_path.glob("killed*/sightline.json"))
    print(f"{recipe['objective']['type']}: {dict(phases)} over {len(runs)} runs")
    assert sum(phases.values()) == KILLS
    assert set(phases) == PHASES[recipe["objective"]["type"]]
    assert sum(one["code"] == 0 for one in attempts) == len(runs) >= 1
    for run in runs:
        assert_same_bits(run.parent, tmp_path / "whole")
