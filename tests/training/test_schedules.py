"""Schedules with options of their own, the last step's line, NaN as the best figure, and TensorBoard over a resume."""

import json
import math
import shutil
from pathlib import Path

import pytest

from sightline.config.evaluation import EvaluationConfig
from sightline.errors import RecipeError
from sightline.training.watch.scores import Watch
from tests.training.runs import curve, lines, pairs, run

MODEL = Path("embedded")
STEPS = (0, 1, 2, 3)
SMALL = {"learning_rate": 1.0e-3, "per_device_train_batch_size": 1}


@pytest.mark.parametrize(
    ("kind", "options", "expected"),
    [
        # of the peak, in each of four steps
        ("linear", {}, [1.0, 0.75, 0.5, 0.25]),
        (
            "cosine_with_min_lr",
            {"min_lr_rate": 0.2},
            [0.2 + 0.4 * (1 + math.cos(math.pi * t / 4)) for t in STEPS],
        ),
        ("cosine_with_min_lr", {"min_lr": 2e-4}, [0.2 + 0.4 * (1 + math.cos(math.pi * t / 4)) for t in STEPS]),
        ("warmup_stable_decay", {"num_decay_steps": 2, "decay_type": "linear"}, [1.0, 1.0, 1.0, 0.5]),
        ("polynomial", {"power": 2.0, "lr_end": 1e-4}, [0.1 + 0.9 * (1 - t / 4) ** 2 for t in STEPS]),
        ("inverse_sqrt", {"timescale": 1}, [1 / math.sqrt(1 + t) for t in STEPS]),
        ("cosine_with_restarts", {"num_cycles": 2}, [1.0, 0.5, 1.0, 0.5]),
    ],
)
def test_the_learning_rate_follows_the_schedule_and_its_options(kind, options, expected, tmp_path):
    recipe = {"lr_scheduler_type": kind, "lr_scheduler_kwargs": options}
    run(tmp_path / "run", MODEL, pairs(4), **SMALL, **recipe)
    assert curve(tmp_path / "run", "learning_rate") == pytest.approx([1e-3 * share for share in expected], abs=1e-9)


def test_a_plateau_halves_the_learning_rate_after_evaluations_and_goes_on_after_a_resume(tmp_path):
    plateau = {
        **SMALL, "lr_scheduler_type": "reduce_lr_on_plateau", "data": {"val_size": 2}, "eval_steps": 2, "max_steps": 6,
        # no loss falls by 90% in two steps, so that every evaluation but the first is one without progress
        "lr_scheduler_kwargs": {"factor": 0.5, "patience": 0, "threshold": 0.9},
    }  # fmt: skip
    run(tmp_path / "whole", MODEL, pairs(8), **plateau, save_steps=4)
    assert [line["learning_rate"] for line in lines(tmp_path / "whole") if "loss" in line] == [
        1e-3, 1e-3, 1e-3, 1e-3, 5e-4, 5e-4,
    ]  # fmt: skip
    shutil.copytree(tmp_path / "whole", tmp_path / "cut")
    shutil.rmtree(tmp_path / "cut" / "checkpoint-6", ignore_errors=True)
    (tmp_path / "cut" / "sightline.json").unlink()
    run(tmp_path / "cut", MODEL, pairs(8), **plateau, save_steps=4, resume=True)
    assert curve(tmp_path / "cut", "learning_rate") == curve(tmp_path / "whole", "learning_rate")


def test_the_last_step_is_logged_though_logging_steps_is_beyond_the_run(tmp_path):
    run(tmp_path / "run", MODEL, pairs(4), **SMALL, max_steps=3, logging_steps=10)
    logged = [line for line in lines(tmp_path / "run") if "loss" in line]
    assert [line["step"] for line in logged] == [3] and math.isfinite(logged[0]["loss"])
    assert "rewards/margins" in logged[0]
    run(tmp_path / "even", MODEL, pairs(4), **SMALL, max_steps=4, logging_steps=2)
    assert [line["step"] for line in lines(tmp_path / "even") if "loss" in line] == [2, 4]


def test_evaluations_of_held_out_rows_where_there_are_none_are_refused(tmp_path):
    with pytest.raises(RecipeError, match="`eval_steps` evaluates on held-out rows, but none are held out"):
        run(tmp_path / "run", MODEL, pairs(4), eval_steps=1)
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("values", "kept", "best"),
    [
        ([math.nan, 0.9, 0.5, 0.4], [10, 20, 30], 0.4),
        ([0.9, math.nan, 0.5], [0, 20], 0.5),
        ([math.nan, math.nan], [], None),
    ],
)
def test_nan_is_never_the_best(values, kept, best):
    config, watch = EvaluationConfig(best="eval_loss", patience=9), Watch()
    steps = range(0, 10 * len(values), 10)
    found = [
        s
        for s, v in zip(steps, values, strict=True)
        if watch.judge(config, {"eval_loss": "lower"}, s, {"eval_loss": v})
    ]
    assert found == kept and watch.best == best and watch.stopped is None


def test_patience_ends_a_run_whose_figure_is_never_a_number():
    config, watch = EvaluationConfig(best="eval_loss", patience=2), Watch()
    for step in (10, 20):
        watch.judge(config, {"eval_loss": "lower"}, step, {"eval_loss": math.nan})
    assert watch.stopped == "eval_loss was no number in 2 evaluations"


def test_tensorboard_shows_one_run_with_every_step_once_after_a_resume(tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe = {**SMALL, "report_to": ["tensorboard"], "save_steps": 2, "max_steps": 6}
    run(tmp_path / "run", MODEL, pairs(8), **recipe)
    for step in (4, 6):  # as a kill after the last step that left checkpoint-2 as the newest
        shutil.rmtree(tmp_path / "run" / f"checkpoint-{step}")
    (tmp_path / "run" / "sightline.json").unlink()
    run(tmp_path / "run", MODEL, pairs(8), **recipe, resume=True)
    (folder,) = {path.parent for path in (tmp_path / "run").rglob("events.out*")}
    log = EventAccumulator(str(folder))
    log.Reload()
    assert folder == tmp_path / "run" / "tensorboard"
    assert [event.step for event in log.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert json.loads((tmp_path / "run" / "sightline.json").read_text())["steps"] == 6
