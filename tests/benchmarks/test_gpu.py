"""The benchmark for one GPU runs on a CPU at toy size, each program in a process of its own."""

import json
import sys
from pathlib import Path

import pytest
from benchmarks.gpu import __main__ as gpu


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
