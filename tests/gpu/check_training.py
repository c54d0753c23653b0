"""A run on the device has the curve that the same run has on a CPU, in float32; and NF4 trains there."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.runs import curve, pairs, run

FIGURES = ("loss", "grad_norm", "rewards/margins", "logps/chosen")


@pytest.mark.parametrize("name", ["llava", "qwen2_vl", "smolvlm"])
@pytest.mark.parametrize("lora", [{"r": 4}, None], ids=["lora", "full"])
def test_the_curve_of_a_cpu(
    tmp_path: Path, tiny_model: Callable[[str], Path], device: str, name: str, lora: dict[str, int] | None
) -> None:
    rows = pairs(16)
    # a GPU would take bfloat16 for both
    model = {"name": str(tiny_model(name)), "dtype": "float32"}
    same = {"model": model, "lora": lora, "learning_rate": 1e-4, "bf16": False}
    run(tmp_path / "cpu", tiny_model(name), rows, use_cpu=True, **same)
    run(tmp_path / "device", tiny_model(name), rows, use_cpu=device == "cpu", **same)
    for figure in FIGURES:
        expected = curve(tmp_path / "cpu", figure)
        assert curve(tmp_path / "device", figure) == pytest.approx(expected, rel=1e-3, abs=1e-4), figure


def test_nf4_with_a_paged_optimizer(tmp_path: Path, tiny_model: Callable[[str], Path], device: str) -> None:
    model = {"name": str(tiny_model("llava")), "quantize": "nf4", "dtype": "bfloat16"}
    optimizer = "paged_adamw_8bit" if device == "cuda" else "adamw_torch"
    run(tmp_path / "run", tiny_model("llava"), pairs(8), model=model, optim=optimizer, max_steps=20)
    losses = curve(tmp_path / "run")
    assert losses[-1] < losses[0]
