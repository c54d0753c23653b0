"""Gemma 4 E2B and E4B: layers that take keys and values of earlier ones train alike, however a step is computed."""

from pathlib import Path

import pytest

from sightline.rehearsal.tiny_models import real_config, save
from tests.training.runs import curve, pairs, run


def test_a_shared_prompt_with_recomputed_layers_has_the_curve_of_padded_rows_without(tmp_path: Path) -> None:
    model = save(real_config("gemma4"), tmp_path / "model")
    for layout, recomputed in (("prefix", True), ("padded", False)):
        options = {"layout": layout, "gradient_checkpointing": recomputed, "learning_rate": 1e-2}
        run(tmp_path / layout, model, pairs(8), max_steps=3, **options)
    for figure in ("loss", "grad_norm"):
        shared, padded = (curve(tmp_path / layout, figure) for layout in ("prefix", "padded"))
        assert len(shared) == 3 and shared[2] != shared[0]
        assert shared == pytest.approx(padded, rel=1e-4), figure
