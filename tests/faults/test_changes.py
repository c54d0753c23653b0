"""Settings that change before `--resume`: each is applied as if by hand, free, or refused, and the record says so."""

import dataclasses
import json
import shutil
import types
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers import TrainerCallback

from sightline.config import Recipe
from sightline.config.online import RewardConfig
from sightline.errors import DataError, RecipeError, UserError
from sightline.recipe import normalise, structure
from sightline.training.checkpoint.changes import DECISIONS, judged
from sightline.training.run import train
from tests.training.runs import curve, lines, pairs, recipe_of, run, said_by

CONSTANT = {"lr_scheduler_type": "constant", "save_steps": 2, "num_train_epochs": 2}


@pytest.fixture(scope="module")
def rows():
    return pairs(8)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model, rows) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, tiny_model("llava"), rows, **CONSTANT)
    return folder


def half(tmp_path: Path, whole: Path) -> Path:
    """The run as it was when its first checkpoint of two was written."""
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    (folder / "sightline.json").unlink()
    shutil.rmtree(folder / "checkpoint-4")
    return folder


def weights(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "adapter_model.safetensors")


def same(one: Path, other: Path) -> bool:
    left, right = weights(one), weights(other)
    return left.keys() == right.keys() and all(torch.equal(left[name], right[name]) for name in left)


def fields_of(kind: Any, above: str = "") -> set[str]:
    """Whole names of all fields of a recipe, by its dataclasses: `lora`, `lora.r`, `objective.beta`, …"""
    names = set()
    for field in dataclasses.fields(kind):
        groups = [RewardConfig] if field.name == "rewards" else groups_in(field.type)
        name = above + field.name
        names |= set().union(*(fields_of(group, f"{name}.") for group in groups)) if groups else {name}
        names |= {name} if type(None) in get_args(field.type) and groups and name != "sampler" else set()
    return names


def groups_in(annotation: Any) -> list[Any]:
    """The dataclasses that a field can hold by itself, not in a list or a map."""
    if get_origin(annotation) is Annotated:
        return groups_in(get_args(annotation)[0])
    if get_origin(annotation) in (Union, types.UnionType):
        return [group for option in get_args(annotation) for group in groups_in(option)]
    return [annotation] if dataclasses.is_dataclass(annotation) else []


def test_every_field_of_a_recipe_is_decided_and_nothing_else():
    fields = fields_of(Recipe)
    assert {"lora", "lora.r", "objective.tau", "sampler.url", "rewards.weight", "guard.max_kl"} <= fields
    assert fields - DECISIONS.keys() == set(), "new fields: say what a resumed run does where they have changed"
    assert DECISIONS.keys() - fields == set(), "no such fields"


class ByHand(TrainerCallback):
    """Changes the optimizer's settings after the second step, as a resumed run should."""

    def on_step_end(self, args, state, control, *, optimizer, lr_scheduler, **kwargs):
        if state.global_step != 2:
            return
        lr_scheduler.base_lrs = [3e-4 for _ in lr_scheduler.base_lrs]
        args.max_grad_norm = 0.05
        for group in optimizer.param_groups:
            group["lr"] = 3e-4
            group["weight_decay"] = 0.5 if group["weight_decay"] else 0.0
            group["betas"], group["eps"] = (0.7, 0.9), 1e-3


def test_what_is_applied_gives_the_weights_of_a_run_changed_by_hand(tmp_path, tiny_model, rows):
    before = {**CONSTANT, "weight_decay": 0.1}
    by_hand = recipe_of(tmp_path / "by-hand", tiny_model("llava"), **before)
    train(by_hand, data=rows, callbacks=[ByHand()], console=Console(quiet=True))
    changed = {
        "learning_rate": 3e-4, "weight_decay": 0.5, "adam_beta1": 0.7, "adam_beta2": 0.9, "adam_epsilon": 1e-3,
        "max_grad_norm": 0.05,
    }  # fmt: skip
    run(tmp_path / "first", tiny_model("llava"), rows, **{**before, "max_steps": 2})
    resume = str(tmp_path / "first" / "checkpoint-2")
    run(tmp_path / "run", tiny_model("llava"), rows, **{**before, **changed, "resume": resume})
    assert curve(tmp_path / "run", "learning_rate") == [3e-4, 3e-4]
    assert same(tmp_path / "run", tmp_path / "by-hand")
    for name in ("weight_decay", "max_grad_norm"):
        others = {**before, **{other: value for other, value in changed.items() if other != name}}
        run(tmp_path / name, tiny_model("llava"), rows, **others, resume=resume)
        assert not same(tmp_path / name, tmp_path / "by-hand"), f"{name} makes a difference here"


def test_the_record_says_what_was_used_from_which_step_on(tmp_path, tiny_model, rows, whole):
    folder = half(tmp_path, whole)
    options = {**CONSTANT, "save_steps": 3, "resume": True}
    said = said_by(folder, tiny_model("llava"), rows, **options, learning_rate=1e-4, max_steps=3)
    assert "learning_rate: 0.001 → 0.0001 from step 3 on\n" in said and "save_steps" not in said
    run(folder, tiny_model("llava"), rows, **options, learning_rate=1e-5)
    recorded = (folder / "recipe.yaml").read_text().splitlines()
    assert recorded[:4] == [
        "# max_steps: 4 → 3 from step 3 on",
        "# learning_rate: 0.001 → 0.0001 from step 3 on",
        "# max_steps: 3 → 4 from step 4 on",
        "# learning_rate: 0.0001 → 1e-05 from step 4 on",
    ]
    assert "learning_rate: 1.0e-05" in recorded
    assert curve(folder, "learning_rate") == [1e-3, 1e-3, 1e-4, 1e-5]
    events = [line["settings"] for line in lines(folder) if line.get("event") == "settings changed"]
    assert events[1] == ["max_steps: 3 → 4 from step 4 on", "learning_rate: 0.0001 → 1e-05 from step 4 on"]
    assert "0.0001 → 1e-05 from step 4 on" in (folder / "report.html").read_text()


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"lora": {"r": 8}}, "`lora.r` is 8 and was 4: the adapter"),
        ({"lora": None}, "`lora` is none and was given"),
        ({"optim": "sgd"}, "`optim` is sgd and was adamw_torch"),
        ({"seed": 7}, "`seed` is 7 and was 42: rows"),
        ({"per_device_train_batch_size": 2}, "`per_device_train_batch_size` is 2 and was 4"),
        ({"objective": {"type": "simpo"}}, "`objective.type` is simpo and was dpo"),
        ({"model": "embedded"}, "`model.name` is embedded"),
        ({"data": {"limit": 5}, "shuffle": False}, "`data.limit` is 5 and was none.*`shuffle` is false"),
    ],
)
def test_what_cannot_change_is_refused_and_the_run_stays_as_it_was(tmp_path, tiny_model, rows, whole, changes, named):
    folder = half(tmp_path, whole)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    options = {"model": str(tiny_model("llava")), **CONSTANT, "resume": True, **changes}
    with pytest.raises(
        RecipeError, match=f"(?s)checkpoint-2 cannot go on.*{named}.*Set it back.*lora.adapter:"
    ) as caught:
        run(folder, Path(options.pop("model")), rows, **options)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_the_same_step_cut_otherwise_and_output_settings_change_nothing(tmp_path, tiny_model, rows, whole):
    folder = half(tmp_path, whole)
    recut = {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4, "run_name": "mine", "save_steps": 1}
    run(folder, tiny_model("llava"), rows, **{**CONSTANT, **recut, "resume": True})
    assert not (folder / "recipe.yaml").read_text().startswith("#")
    assert curve(folder) == pytest.approx(curve(whole), abs=1e-5)


def test_other_rows_under_the_same_settings_are_noticed(tmp_path, tiny_model, rows, whole):
    folder = half(tmp_path, whole)
    recorded = (folder / "recipe.yaml").read_text()
    with pytest.raises(DataError, match="there are 7, and were 8"):
        run(folder, tiny_model("llava"), rows[:-1], **CONSTANT, resume=True, learning_rate=1e-4)
    with pytest.raises(DataError, match="still 8, but their texts have changed"):
        run(folder, tiny_model("llava"), pairs(8, seed=1), **CONSTANT, resume=True)
    assert (folder / "recipe.yaml").read_text() == recorded


def test_a_finished_run_takes_the_epochs_that_it_is_then_asked_for(tmp_path, tiny_model, rows):
    """After the old end the learning rate is what a run of the new length has at that step."""
    options = {"max_steps": -1, "save_steps": 2, "lr_scheduler_type": "linear"}
    run(tmp_path / "run", tiny_model("llava"), rows, **options, num_train_epochs=1)
    run(tmp_path / "whole", tiny_model("llava"), rows, **options, num_train_epochs=3)
    assert json.loads((tmp_path / "run" / "sightline.json").read_text())["steps"] == 2
    again = run(tmp_path / "run", tiny_model("llava"), rows, **options, num_train_epochs=1, resume=True)
    assert again.model is None, "nothing is left to do"
    run(tmp_path / "run", tiny_model("llava"), rows, **options, num_train_epochs=3, resume=True)
    assert json.loads((tmp_path / "run" / "sightline.json").read_text())["steps"] == 6
    rates = curve(tmp_path / "run", "learning_rate")
    assert rates[2:] == curve(tmp_path / "whole", "learning_rate")[2:] and rates[2] > rates[1]
    assert curve(tmp_path / "run", "epoch")[-1] == 3.0


def test_an_end_before_the_checkpoint_is_refused(tmp_path, tiny_model, rows, whole):
    folder = half(tmp_path, whole)
    with pytest.raises(UserError, match=r"to end after step 1, but .*checkpoint-2 is 2 steps in"):
        run(folder, tiny_model("llava"), rows, **CONSTANT, max_steps=1, resume=True)


def recipe(**tree: Any) -> Recipe:
    return structure(normalise({"model": "embedded", "data": "rows.jsonl", **tree}))


GRPO = {
    "objective": {"type": "grpo"},
    "sampler": {"type": "transformers", "num_iterations": 2, "steps_per_generation": 2},
    "rewards": {"accuracy": 1.0, "length": {"longest": 9, "weight": 0.5}},
}


@pytest.mark.parametrize(
    ("old", "new", "step", "refused"),
    [
        ({"lr_scheduler_type": "linear"}, {"lr_scheduler_type": "cosine"}, 3, None),
        (
            {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_steps": 1},
            {"lr_scheduler_type": "reduce_lr_on_plateau", "eval_steps": 1, "learning_rate": 0.1},
            3,
            "`learning_rate` is 0.1.*a state of its own",
        ),
        ({"objective": {"type": "bco"}}, {"objective": {"type": "bco", "beta": 0.2}}, 3, "running shift"),
        ({"objective": {"type": "dpo"}}, {"objective": {"type": "dpo", "beta": 0.2}}, 3, None),
        (
            {"objective": {"type": "mix", "parts": {"sigmoid": 0.8, "sft": 1.0}}},
            {"objective": {"type": "mix", "parts": {"sigmoid": 0.5, "sft": 1.0}}},
            3,
            None,
        ),
        (
            {"objective": {"type": "mix", "parts": {"sigmoid": 0.8, "sft": 1.0}}},
            {"objective": {"type": "mix", "parts": {"sigmoid": 0.8, "ipo": 1.0}}},
            3,
            "another objective",
        ),
        ({"reference": {"update_every": 4}}, {"reference": {"update_every": 5}}, 3, None),
        ({}, {"reference": {"update_every": 5}}, 3, "`reference.update_every` is 5 and was none"),
        ({"data": "rows.jsonl"}, {"data": "./rows.jsonl"}, 3, None),
        ({"data": "rows.jsonl"}, {"data": "moved/rows.jsonl"}, 3, "linked to its old place"),
        (GRPO, {**GRPO, "sampler": {**GRPO["sampler"], "temperature": 0.5}}, 4, None),
        (
            GRPO,
            {**GRPO, "sampler": {**GRPO["sampler"], "temperature": 0.5}},
            6,
            "step 6 is in the middle.*multiple of 4",
        ),
        (GRPO, {**GRPO, "sampler": {**GRPO["sampler"], "url": "http://x"}}, 6, None),
        (GRPO, {**GRPO, "sampler": {**GRPO["sampler"], "num_generations": 4}}, 4, "a round of completions"),
        (GRPO, {**GRPO, "rewards": {"length": {"longest": 9, "weight": 0.5}, "accuracy": 1.0}}, 6, None),
        (GRPO, {**GRPO, "rewards": {"accuracy": 1.0}}, 6, "`rewards.length: given → none`"),
        (GRPO, {**GRPO, "rewards": {"accuracy": 2.0, "length": {"longest": 9, "weight": 0.5}}}, 4, None),
        (GRPO, {**GRPO, "objective": {"type": "reinforce_pp"}}, 4, "`objective.type` is reinforce_pp"),
        ({**GRPO, "sampler": None}, {**GRPO, "sampler": {"type": "transformers", "num_generations": 8}}, 3, None),
    ],
)
def test_what_depends_on_other_settings(old, new, step, refused):
    if "url" in new.get("sampler", {}):
        old, new = ({**one, "sampler": {**one["sampler"], "type": "vllm", "mode": "server"}} for one in (old, new))
    if refused is None:
        judged(recipe(**new), recipe(**old), Path("run/checkpoint"), step)
        return
    with pytest.raises(RecipeError, match=refused):
        judged(recipe(**new), recipe(**old), Path("run/checkpoint"), step)


def test_lines_name_rewards_and_the_best_value_is_forgotten_where_figures_are_new():
    changed = {**GRPO, "rewards": {"accuracy": 2.0, "length": {"longest": 9, "weight": 0.5}}}
    found = judged(recipe(**changed), recipe(**GRPO), Path("run/checkpoint-4"), 4)
    assert found.lines == ("rewards.accuracy.weight: 1 → 2 from step 5 on",) and found.new_figures
    found = judged(recipe(learning_rate=1e-6), recipe(learning_rate=5e-6), Path("run/checkpoint-119"), 119)
    assert found.lines == ("learning_rate: 5e-06 → 1e-06 from step 120 on",) and not found.new_figures
