"""GRPO fixes the embedded model within a third of its recipe's steps (tests/full has three seeds of both recipes)."""

import json

import pytest

from tests.training.online_recipes import LEAST_RISE, base_rate, rate_after

DRAWS = True


@pytest.mark.full
def test_exact_descriptions_of_fresh_scenes_rise_by_35_points(tmp_path):
    before, after = base_rate(), rate_after("scenes_grpo", tmp_path / "run", seed=3, max_steps=20)
    assert after - before >= LEAST_RISE
    lines = [json.loads(line) for line in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    held_out = {line["step"]: line["eval_reward"] for line in lines if "eval_reward" in line}
    assert held_out.keys() == {0, 20} and held_out[20] - held_out[0] >= LEAST_RISE / 100
    page = (tmp_path / "run" / "report.html").read_text()
    assert "Sampled answers" in page and "Describe this image." in page and "<h3>Step 20</h3>" in page
