"""Held-out figures are those of all held-out rows, whatever the batches, for objectives over batch statistics too."""

import pytest

from tests.training.runs import lines, pairs, run


@pytest.mark.parametrize("objective", ["kto", "aot", "mdpo"])
def test_held_out_figures_do_not_depend_on_the_batch_size(tmp_path, tiny_model, objective):
    figures = []
    for size in (1, 4):
        folder = tmp_path / str(size)
        options = {"objective": {"type": objective}, "data": {"val_size": 5}, "learning_rate": 1e-2, "max_steps": 1}
        run(folder, tiny_model("llava"), pairs(9), per_device_eval_batch_size=size, **options)
        (found,) = [line for line in lines(folder) if "eval_loss" in line]
        figures.append({name: value for name, value in found.items() if name != "eval_runtime"})
    assert figures[0] == pytest.approx(figures[1], rel=1e-5, abs=1e-6)
    assert figures[0]["eval_rewards/chosen"] != 0
