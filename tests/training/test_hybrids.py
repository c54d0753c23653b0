"""Qwen3.5, dense and with experts: the curve of a shared prompt is that of padded rows, offline and online."""

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.training.runs import curve, pairs, run
from tests.training.test_online import prompts
from tests.training.test_online import run as run_online

LAYOUTS = ("prefix", "padded")


@pytest.mark.parametrize("objective", ["dpo", "mpo"])
@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_pairs_train_alike(tmp_path: Path, tiny_model: Callable[[str], Path], name: str, objective: str) -> None:
    for layout in LAYOUTS:
        run(tmp_path / layout, tiny_model(name), pairs(8), objective={"type": objective}, layout=layout, max_steps=3)
    shared, padded = (curve(tmp_path / layout) for layout in LAYOUTS)
    assert len(shared) == 3 and shared[2] != shared[0]
    assert shared == pytest.approx(padded, rel=1e-4)


@pytest.mark.parametrize("name", ["qwen3_5", "qwen3_5_moe"])
def test_sampled_completions_train_alike(tmp_path: Path, tiny_model: Callable[[str], Path], name: str) -> None:
    for layout in LAYOUTS:
        run_online(tmp_path / layout, tiny_model(name), prompts(4), layout=layout, max_steps=2)
    rewards, lengths, losses = (
        [curve(tmp_path / layout, figure) for layout in LAYOUTS]
        for figure in ("reward", "completions/mean_length", "loss")
    )
    assert rewards[0] == rewards[1] and lengths[0] == lengths[1]
    assert losses[0] == pytest.approx(losses[1], rel=1e-3, abs=1e-5)
