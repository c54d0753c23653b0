"""Any cut of a step into micro-batches, in either layout, has one loss, gradient and metrics: for every objective."""

from typing import Any

import pytest
import torch

from tests.invariant.steps import Case, case, step
from tests.objectives.every import EVERY

TOLERANCE = {torch.float64: 1e-6, torch.float32: 1e-5}


@pytest.fixture(scope="module")
def cases(tiny_model) -> dict[torch.dtype, Case]:
    return {dtype: case(tiny_model("llava"), dtype) for dtype in TOLERANCE}


@pytest.mark.parametrize("name", EVERY)
def test_every_cut_has_the_step_of_the_whole(cases, name):
    for dtype, tolerance in TOLERANCE.items():
        whole = step(cases[dtype], name)
        assert whole.gradient.norm() > 1e-6
        cut: dict[str, Any] = {"groups_per_forward": 1, "layout": "padded"}
        if dtype is torch.float32:
            cut = {"groups_per_forward": 2}
        found = step(cases[dtype], name, **cut)
        assert found.loss == pytest.approx(whole.loss, rel=tolerance, abs=tolerance)
        assert (found.gradient - whole.gradient).norm() <= tolerance * whole.gradient.norm()
        assert found.metrics == pytest.approx(whole.metrics, rel=10 * tolerance, abs=10 * tolerance)
        assert found.state == pytest.approx(whole.state, rel=tolerance, abs=tolerance)
