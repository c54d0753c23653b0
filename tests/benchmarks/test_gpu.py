"""The benchmark for one GPU runs on a CPU at toy size, each program in a process of its own."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.gpu import __main__ as gpu
from benchmarks.gpu import roofline


@pytest.mark.parametrize(("setting", "passes"), [("dpo", 4), ("grpo", 16)])
def test_it_runs_and_both_programs_train_alike(setting, passes, tmp_path: Path, monkeypatch, capsys) -> None:
    monkeypatch.setattr(sys, "argv", ["gpu", "--toy", "--settings", setting, "--out", str(tmp_path)])
    gpu.main()
    (entry,) = json.loads((tmp_path / "gpu.json").read_text())
    assert entry["alike"] and entry["loss_difference"] <= 1e-5
    assert entry["tower_passes"] == 1 and entry["programs"]["trl"]["tower_passes"] == passes
    ours, theirs = entry["programs"]["sightline"], entry["programs"]["trl"]
    assert 0 < ours["tflop"] < theirs["tflop"]
    assert all(one["step_s"] > 0 and one["tokens_a_second"] > 0 for one in (ours, theirs))
    assert "tokens/s" in capsys.readouterr().out


def test_the_peak_of_a_device_is_known_by_its_name_or_not_at_all() -> None:
    assert gpu.peak_of("NVIDIA H100 PCIe") == 756e12
    assert gpu.peak_of("NVIDIA H200") == 989e12
    assert gpu.peak_of("cpu") is None


def test_the_modelled_step_is_worked_out_by_hand_and_stands_in_the_docs() -> None:
    """7B, K = 2, C = 200: layers of 233,046,016 weights, 28 of them, 1,500 tokens, three passes; and the rest."""
    (case,) = (one for one in roofline.CASES if one.name == "7B" and one.responses == 2 and one.prompts == 1)
    layer = 2 * 3584**2 + 2 * 3584 * 512 + 3 * 3584 * 18944
    language = 3 * 2 * 28 * layer * 1500
    tower = 2 * 4096 * 32 * (4 * 1280**2 + 3 * 1280 * 3420) + 2 * 1024 * 5120 * (5120 + 3584)
    assert roofline.products_of(case) == language + tower + 3 * 2 * 400 * 3584 * 152064
    seen = 1100**2 / 2 + 1100 * 400 + 2 * 200**2 / 2
    spans = 28 * 3584 * 2 * seen * (4 / 330e12 + 5 / 260e12)
    assert roofline.modelled(case).spans == pytest.approx(1e3 * spans)
    assert roofline.table() in (Path(__file__).parents[2] / "docs" / "benchmarks.md").read_text(encoding="utf-8")
