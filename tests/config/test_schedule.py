"""Schedules and optimizers: the tables are the library's, and what cannot train is refused when the recipe is read."""

import inspect
import shlex
from dataclasses import fields

import pytest

from sightline.config.packages import refuse_absent
from sightline.config.schedule import OPTIMIZERS, OPTIMIZERS_NOT_HERE, SCHEDULES, SCHEDULES_NOT_HERE
from sightline.errors import RecipeError
from sightline.recipe import load_recipe

BASE = ["--model", "m", "--data", "d", "--learning-rate", "1e-4"]


def test_the_tables_are_those_of_transformers():
    from transformers.optimization import TYPE_TO_SCHEDULER_FUNCTION
    from transformers.trainer_utils import SchedulerType
    from transformers.training_args import OptimizerNames

    assert {one.value for one in SchedulerType} == SCHEDULES.keys() | SCHEDULES_NOT_HERE.keys()
    assert {one.value for one in OptimizerNames} == OPTIMIZERS.keys() | OPTIMIZERS_NOT_HERE.keys()
    given = {"optimizer", "num_warmup_steps", "num_training_steps", "last_epoch", "kwargs"}
    for one, function in TYPE_TO_SCHEDULER_FUNCTION.items():
        if one.value not in ("greedy", "reduce_lr_on_plateau"):
            theirs = set(inspect.signature(function).parameters) - given
            assert theirs == {f.name for f in fields(SCHEDULES[one.value])}, one


def test_the_options_of_a_plateau_are_torchs():
    from torch.optim.lr_scheduler import ReduceLROnPlateau

    theirs = set(inspect.signature(ReduceLROnPlateau).parameters) - {"optimizer", "mode"}
    assert theirs == {f.name for f in fields(SCHEDULES["reduce_lr_on_plateau"])}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("TYPE consine", "Did you mean `cosine`?"),
        ("TYPE fancy", "Known: linear, cosine,"),
        ("TYPE greedy", "cannot train here"),
        ("TYPE cosine_with_min_lr", "one of `min_lr`, a learning rate, and `min_lr_rate`"),
        ("TYPE cosine_with_min_lr KWARGS '{min_lr: 1, min_lr_rate: 1}'", "one of"),
        ("TYPE warmup_stable_decay", "has to give `num_decay_steps`. Expected a whole number, 1 to 1e9."),
        ("TYPE warmup_stable_decay KWARGS.num_decay_steps -3", "Expected a whole"),
        ("KWARGS '{power: 2}'", "`lr_scheduler_type: linear`: there is no option `power`. It has none."),
        ("TYPE polynomial KWARGS '{powr: 2}'", "Did you mean `power`?"),
        ("TYPE polynomial --learning-rate 1e-8", "ends at `lr_end: 1e-07`, which is not below"),
        ("TYPE cosine_with_min_lr KWARGS '{min_lr: 1e-3}'", "is not below"),
        ("TYPE reduce_lr_on_plateau", "Give `eval_steps`"),
        ("TYPE constant --warmup-steps 5", "take `constant_with_warmup`"),
        ("TYPE inverse_sqrt KWARGS '{timescale: .nan}'", "Give a finite one"),
        ("--optim adamw_8bt", "Did you mean `adamw_8bit`?"),
        ("--optim muon", "is no optimizer of transformers'"),
        ("--optim galore_adamw", "needs `optim_target_modules`"),
        ("--optim schedule_free_adamw", "two sets of weights"),
        ("--optim lomo", "inside the backward"),
    ],
)
def test_a_schedule_or_optimizer_that_cannot_be_is_refused_when_the_recipe_is_read(flags, said):
    words = shlex.split(flags.replace("TYPE", "--lr-scheduler-type").replace("KWARGS", "--lr-scheduler-kwargs"))
    given = dict(zip(BASE[::2], BASE[1::2], strict=True)) | dict(zip(words[::2], words[1::2], strict=True))
    with pytest.raises(RecipeError) as error:
        load_recipe(None, [word for pair in given.items() for word in pair])
    assert said in str(error.value) and "\n" not in str(error.value)


def test_options_of_a_schedule_are_numbers_from_files_and_flags(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lr_scheduler_type: cosine_with_min_lr\nlr_scheduler_kwargs: {min_lr: 1e-7}\n")
    assert load_recipe(path).lr_scheduler_kwargs == {"min_lr": 1e-7}
    flags = ["--lr-scheduler-type", "warmup_stable_decay", "--lr-scheduler-kwargs.num-decay-steps", "20"]
    assert load_recipe(None, flags).lr_scheduler_kwargs == {"num_decay_steps": 20}


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--optim", "stable_adamw"],
            "needs optimi, which is not installed. Install it with `pip install torch-",
        ),
        (["--optim", "adamw_torch_4bit"], "`pip install torchao`"),
        (["--optim", "paged_lion_8bit"], "`pip install 'sightline[quant]'`"),
        (["--report-to", "wandb"], "`report_to: [wandb]` needs wandb"),
        (["--report-to", "tensorboard", "trackio"], "`report_to: [tensorboard]` needs tensorboard"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_how_to_install_it(flags, said, monkeypatch):
    monkeypatch.setattr("sightline.config.packages.find_spec", lambda name: None)
    recipe = load_recipe(None, flags)  # planning elsewhere needs none of them
    with pytest.raises(RecipeError) as error:
        refuse_absent(recipe)
    assert said in str(error.value)
