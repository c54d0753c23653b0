"""Scoring while training: the collapse is caught that reward accuracy hides, best weights are kept, resume is exact."""

import io
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file

from sightline.config.evaluation import EvaluationConfig
from sightline.errors import RecipeError
from sightline.evaluation.models import Models, source_of
from sightline.recipe import load_recipe, normalise, structure
from sightline.recipes import path as recipe_path
from sightline.training.run import train
from sightline.training.watch.scores import Better, Watch
from tests.training.runs import curve, lines, pairs, run

DRAWS = True

MODEL = Path("embedded")
FEW = {"tasks": ["scenes"], "every": 2, "limit": 12}


@pytest.mark.full
def test_the_run_whose_reward_accuracy_is_one_while_cover_falls_is_stopped(tmp_path):
    """The shipped recipe at a smaller size: rewards look perfect, answers do not, and the run ends early."""
    flags = ["--output-dir", str(tmp_path / "run"), "--data.scenes", "{images: 400}", "--evaluation.limit", "200"]
    result = train(load_recipe(recipe_path("scenes_watched"), flags))
    cover, accuracy = curve(result.folder, "scenes/cover"), curve(result.folder, "rewards/accuracies")
    card = json.loads((result.folder / "sightline.json").read_text())
    assert cover[0] > 93 and cover[-1] < 90
    assert max(accuracy) > 0.9 and accuracy[0] < 0.7
    assert card["steps"] == 75 and "scenes/cover" in card["stopped"] and "below its limit of 90" in card["stopped"]
    assert "Stopped early" in (result.folder / "report.html").read_text()
    assert (result.folder / "curves" / "scores_scenes.png").is_file()
    best = json.loads((result.folder / "best" / "sightline.json").read_text())
    assert best["scenes/cover"] == max(cover) and best["step"] < card["steps"]


@pytest.fixture(scope="module")
def scored(tmp_path_factory):
    folder = tmp_path_factory.mktemp("scored") / "run"
    watched = {**FEW, "best": "scenes/hal"}
    run(folder, MODEL, pairs(8), evaluation=watched, num_train_epochs=2, save_steps=2, lora={"r": 4})
    return folder


def test_scores_stand_in_the_metrics_and_answers_with_intervals_in_the_folder(scored):
    steps = [line["step"] for line in lines(scored) if "scenes/cover" in line]
    assert steps == [0, 2, 4]
    summary = json.loads((scored / "scores" / "step-2" / "scenes.json").read_text())
    figure = summary["figures"]["all"]["hal"]
    assert figure["low"] <= figure["value"] <= figure["high"]
    assert figure["value"] == curve(scored, "scenes/hal")[1]
    assert len((scored / "scores" / "step-2" / "scenes.jsonl").read_text().splitlines()) == 12


def test_scoring_does_not_move_the_training(scored, tmp_path):
    run(tmp_path / "plain", MODEL, pairs(8), num_train_epochs=2, lora={"r": 4})
    assert curve(scored) == curve(tmp_path / "plain")


def test_the_best_weights_load_by_their_folder(scored):
    source = source_of(str(scored / "best"))
    assert source.base == "embedded"
    with Models([source]).use(source.label) as (model, _):
        assert any("lora" in name for name, _ in model.named_parameters())


def test_a_resumed_run_watches_on_from_where_it_was(scored, tmp_path):
    before = (scored / "sightline.json").read_text()
    assert json.loads((scored / "checkpoint-2" / "evaluation.json").read_text())["seen"] == [0, 2]
    (scored / "sightline.json").unlink()
    for file in (scored / "checkpoint-4").iterdir():
        file.unlink()
    (scored / "checkpoint-4").rmdir()
    watched = {**FEW, "best": "scenes/hal"}
    options = {"evaluation": watched, "num_train_epochs": 2, "save_steps": 2, "lora": {"r": 4}}
    run(scored, MODEL, pairs(8), **options, resume=True)
    assert [line["step"] for line in lines(scored) if "scenes/cover" in line] == [0, 2, 4]
    again = json.loads((scored / "sightline.json").read_text())
    assert (again["best"], again["best_step"]) == tuple(json.loads(before)[key] for key in ("best", "best_step"))


def test_held_out_figures_can_be_watched_and_patience_ends_the_run(tmp_path, tiny_model):
    options = {"data": {"val_size": 2}, "eval_steps": 1, "learning_rate": 0.0, "max_steps": 6, "num_train_epochs": 9}
    watched = {"best": "eval_loss", "patience": 2}
    result = run(tmp_path / "run", tiny_model("llava"), pairs(6), evaluation=watched, **options)
    card = json.loads((result.folder / "sightline.json").read_text())
    assert (card["steps"], card["best_step"]) == (3, 1) and "has not been better since" in card["stopped"]
    again = run(tmp_path / "run", tiny_model("llava"), pairs(6), evaluation=watched, **options, resume=True)
    assert again.model is None


def go(folder: Path, model: Path, limit: float, **changes: Any) -> tuple[dict[str, Any], str]:
    """The card of a run that stops where its held-out loss is above the limit, and what it said."""
    recipe = {
        "model": str(model),
        "output_dir": str(folder),
        "objective": "dpo",
        "lora": {"r": 4},
        "layout": "prefix",
        "data": {"val_size": 2},
        "evaluation": {"limits": {"eval_loss": limit}},
        "learning_rate": 1e-3,
        "max_steps": 6,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 9,
        "eval_steps": 3,
        "save_steps": 2,
        "dataloader_num_workers": 0,
        **changes,
    }
    said = io.StringIO()
    train(structure(normalise(recipe)), data=pairs(6), console=Console(file=said, width=1000))
    return json.loads((folder / "sightline.json").read_text()), said.getvalue()


def figures(folder: Path) -> list[dict[str, Any]]:
    times = ("memory/", "seconds/", "train_", "eval_runtime")
    logged = [line for line in lines(folder) if line.get("event") != "settings changed"]
    return [{k: v for k, v in line.items() if not k.startswith(times)} for line in logged]


def same_weights(a: Path, b: Path) -> bool:
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in (a, b))
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def test_a_run_that_stopped_early_goes_on_if_its_rules_change_and_only_then(tmp_path, tiny_model):
    model, folder, whole = tiny_model("llava"), tmp_path / "run", tmp_path / "whole"
    card, said = go(folder, model, 0.1)
    assert card["steps"] == 3 and "Stopped at step 3: eval_loss is" in said
    assert sorted(path.name for path in folder.glob("checkpoint-*")) == ["checkpoint-2", "checkpoint-3"]
    again, said = go(folder, model, 0.1, resume=True, max_steps=9)
    assert again == card
    assert "stopped early at step 3: eval_loss is" in said and "change `evaluation.limits`" in said
    card, said = go(folder, model, 10.0, resume=True)
    assert (card["steps"], card["stopped"]) == (6, None) and "Resuming from" in said
    go(whole, model, 10.0)
    assert figures(folder) == figures(whole) and same_weights(folder, whole)


def test_a_run_killed_between_its_early_stop_and_its_end_takes_no_further_step(tmp_path, tiny_model):
    model, folder, whole = tiny_model("llava"), tmp_path / "run", tmp_path / "whole"
    card, _ = go(whole, model, 0.1)
    shutil.copytree(whole, folder)
    for name in ("sightline.json", "adapter_model.safetensors"):
        (folder / name).unlink()
    again, said = go(folder, model, 0.1, resume=True)
    assert "Stopped at step 3" in said
    assert again["steps"] == 3 and again["stopped"] == card["stopped"]
    assert figures(folder) == figures(whole) and same_weights(folder, whole)


def test_another_figure_than_the_checkpoint_s_is_not_compared_with_it():
    better: dict[str, Better] = {"eval_loss": "lower", "scenes/hal": "lower"}
    watch = Watch(figure="scenes/hal", best=0.1, best_step=3, waited=5, stopped="scenes/hal was 0.1")
    patient = {"tasks": ["scenes"], "patience": 2}
    watch.go_on(EvaluationConfig(best="scenes/hal", **patient), better)
    assert watch.stopped == "scenes/hal was 0.1 at step 3 and has not been better since"
    watch.go_on(EvaluationConfig(best="eval_loss", **patient), better)
    assert watch.stopped is None and watch.judge(
        EvaluationConfig(best="eval_loss", **patient), better, 4, {"eval_loss": 0.6}
    )


def test_limits_and_best_values_go_the_way_that_is_better():
    config = EvaluationConfig(tasks=["scenes"], best="scenes/hal", limits={"scenes/cover": 90.0})
    better: dict[str, Better] = {"scenes/hal": "lower", "scenes/cover": "higher"}
    watch = Watch()
    assert watch.judge(config, better, 0, {"scenes/hal": 40.0, "scenes/cover": 95.0})
    assert watch.judge(config, better, 1, {"scenes/hal": 30.0, "scenes/cover": 90.0}) and watch.stopped is None
    assert not watch.judge(config, better, 2, {"scenes/hal": 30.0, "scenes/cover": 89.9})
    assert watch.best_step == 1 and watch.stopped == "scenes/cover is 89.9, below its limit of 90"
    assert not watch.judge(config, better, 3, {"scenes/hal": float("nan")})


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        ({"tasks": ["scenes"], "best": "scenes/covr"}, "which no task here has. Known: scenes/chair"),
        ({"tasks": ["scenes"], "limits": {"scenes/mentions": 1}}, "which no task here has"),
        ({"tasks": ["scens"]}, "no task `scens`"),
        ({"best": "eval_loss"}, "`eval_steps`"),
        ({"best": "eval_los"}, "It can watch eval_loss, .*eval_rewards/accuracies"),
        ({"best": "scenes/hal"}, "scores no task"),
        ({"tasks": ["scenes"], "patience": 2}, "`evaluation.best`"),
        ({"tasks": ["pope"]}, "needs `--data`|needs `data`"),
    ],
)
def test_a_figure_that_the_run_will_not_have_is_refused(tmp_path, tiny_model, evaluation, reason):
    with pytest.raises(RecipeError, match=reason):
        held_out = {"data": {"val_size": 2}, "eval_steps": 1} if evaluation.get("best") == "eval_los" else {}
        run(tmp_path / "run", tiny_model("llava"), pairs(4), evaluation=evaluation, **held_out)
