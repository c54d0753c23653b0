"""Before the first step one real group goes through both layouts; what came of it stands in metrics.jsonl."""

from pathlib import Path
from typing import Any

import pytest

from tests.training.runs import curve, lines, pairs, run


def choice(folder: Path) -> dict[str, Any]:
    (found,) = [line for line in lines(folder) if line.get("event") == "layout"]
    return found


def test_training_falls_back_to_padded_and_says_so(tmp_path: Path, tiny_model, monkeypatch: pytest.MonkeyPatch) -> None:
    rows, folder = pairs(8), tiny_model("llava")
    run(tmp_path / "shared", folder, rows, layout="auto", max_steps=2)
    agreed = choice(tmp_path / "shared")
    assert agreed["layout"] == "prefix" and "equal to padded within" in agreed["reason"]
    # a mask that lets responses see each other
    monkeypatch.setattr("sightline.models.families.family.Family.masks", lambda self, batch: (batch.group >= 0).long())
    run(tmp_path / "broken", folder, rows, layout="auto", max_steps=2)
    found = choice(tmp_path / "broken")
    assert found["layout"] == "padded" and "the shared prefix differs by" in found["reason"]
    assert curve(tmp_path / "broken") == pytest.approx(curve(tmp_path / "shared"), abs=1e-5)
