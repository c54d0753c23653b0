"""GRPO and GSPO by their recipes: three seeds, judged on scenes that no setting was chosen on."""

import pytest

from tests.training.online_recipes import LEAST_RISE, base_rate, rate_after


@pytest.mark.parametrize("recipe", ["scenes_grpo", "scenes_gspo"])
@pytest.mark.parametrize("seed", [0, 1, 2])
def test_exact_descriptions_rise_by_at_least_35_points(tmp_path, recipe, seed):
    before, after = base_rate(), rate_after(recipe, tmp_path / "run", seed)
    print(f"{recipe}, seed {seed}: {before:.1f} → {after:.1f}")
    assert after - before >= LEAST_RISE
