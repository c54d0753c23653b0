"""Recipes: YAML and flags into checked dataclasses, and what the user reads when they are wrong."""

from pathlib import Path

import pytest

from sightline.config import DPOConfig, SFTConfig
from sightline.config.complaint import all_names
from sightline.errors import RecipeError
from sightline.recipe import dump_recipe, left_out, load_recipe


def write(folder: Path, text: str) -> Path:
    path = folder / "recipe.yaml"
    path.write_text(text)
    return path


def test_flags_alone_make_a_recipe():
    recipe = load_recipe(
        None, ["--model", "folder", "--data", "rows.parquet", "--objective.type", "dpo", "--max-steps", "12"]
    )
    assert (recipe.model.name, recipe.data.source, recipe.max_steps) == ("folder", "rows.parquet", 12)
    assert isinstance(recipe.objective, DPOConfig)


def test_a_flag_wins_over_the_file(tmp_path):
    path = write(tmp_path, "learning_rate: 1e-5\nlora: {r: 4}\nobjective: {type: dpo, beta: 0.3}\n")
    recipe = load_recipe(path, ["--learning-rate", "2e-4", "--lora.r=32"])
    assert recipe.learning_rate == 2e-4
    assert recipe.lora is not None and recipe.lora.r == 32
    assert isinstance(recipe.objective, DPOConfig) and recipe.objective.beta == 0.3


def test_trl_hurt_7_an_option_that_cannot_be_is_refused_before_anything_is_loaded(tmp_path):
    for text, expected in (
        ("objective: {type: sigmod}\n", "sigmoid"),
        ("objective: {type: dpo, ld_alpha: 3}\n", "ld_alpha"),
        ("learning_rat: 1e-5\n", "learning_rate"),
    ):
        with pytest.raises(RecipeError, match=expected):
            load_recipe(write(tmp_path, text))


def test_trl_hurt_7_a_number_that_yaml_reads_as_text_is_still_a_number(tmp_path):
    assert load_recipe(write(tmp_path, "learning_rate: 5e-6\n")).learning_rate == 5e-6


def test_changing_the_objective_by_flag_starts_its_group_afresh(tmp_path):
    recipe = load_recipe(write(tmp_path, "objective: {type: dpo, beta: 0.3}\n"), ["--objective.type", "sft"])
    assert isinstance(recipe.objective, SFTConfig)


def test_bare_flags_lists_and_free_options():
    recipe = load_recipe(
        None, ["--lora", "--resume", "--report-to", "wandb", "tensorboard", "--model.processor.max_pixels", "400"]
    )
    assert recipe.lora is not None and recipe.resume is True
    assert recipe.report_to == ["wandb", "tensorboard"]
    assert recipe.model.processor == {"max_pixels": 400}


def test_the_resolved_recipe_runs_again_as_it_is(tmp_path):
    recipe = load_recipe(None, ["--model", "m", "--lora.r", "8", "--data", "d", "--warmup-steps", "0.1"])
    assert load_recipe(write(tmp_path, dump_recipe(recipe))) == recipe


@pytest.mark.parametrize(
    ("flags", "hint"),
    [
        (["--learning-rat", "1"], "Did you mean `learning_rate`?"),
        (["--lr", "1"], "Did you mean `learning_rate`?"),
        (["--beta", "1"], "Did you mean `objective.beta`?"),
        (["--data.limt", "1"], "Did you mean `data.limit`?"),
        (["--objective.type", "sigmod"], "Known: "),
        (["--objective.beta", "-1"], "greater than 0"),
        (["--learning-rate", "fast"], "valid number"),
        (["--objective.type", "sft", "--objective.beta", "1"], "`objective.type: sft` takes"),
        (["--seed", "1", "--seed", "2"], "given twice"),
        (["seed"], "neither a flag nor its value"),
        (["--lora.alpha", "0"], "greater than 0"),
        (["--model.quantize-parts", "head"], "Flag --model.quantize_parts: "),
        (["--model.quantize-parts", "vision"], "`model.quantize` is none"),
        (["--lora.r", "4", "--model.quantize", "int8", "--model.double-quantize", "false"], "it is int8"),
    ],
)
def test_a_wrong_flag_is_named_with_the_nearest_valid_one(flags, hint):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, flags)
    assert hint in str(error.value)


def test_a_value_of_no_allowed_kind_is_one_line():
    with pytest.raises(RecipeError) as error:
        load_recipe(None, ["--gradient-checkpointing", "sometimes"])
    said = str(error.value)
    assert said.startswith("Flag --gradient_checkpointing: `gradient_checkpointing: sometimes` cannot be.")
    assert "a valid boolean" in said and "Or: Input should be 'selective'." in said and "\n" not in said


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("seed: 1\nlearning_rat: 2\n", "line 2"),
        ("objective:\n  type: dpo\n  bta: 1\n", "line 3: there is no `objective.bta`. Did you mean `objective.beta`?"),
        ("seed: 1\nseed: 2\n", "line 2: `seed` is given a second time (first on line 1)"),
        ("seed: [1\n", "is not YAML"),
        ("- 1\n", "holds a list"),
        ("data: {limit: many}\n", "valid integer"),
    ],
)
def test_a_wrong_file_is_named_with_the_line(tmp_path, text, hint):
    with pytest.raises(RecipeError) as error:
        load_recipe(write(tmp_path, text))
    assert hint in str(error.value)


def test_a_missing_recipe_is_one_sentence():
    with pytest.raises(RecipeError, match=r"There is no recipe nowhere\.yaml"):
        load_recipe("nowhere.yaml")


def test_every_recipe_name_has_a_description():
    from sightline.cli.recipe_help import recipe_help

    page = recipe_help("all")
    for name in all_names():
        leaf = name.rpartition(".")[2]
        assert leaf == "type" or leaf.replace("_", "-") in page or name.upper() in page
    assert max(len(line) for line in page.splitlines()) <= 80


def test_a_flag_for_other_rows_drops_what_the_recipe_says_of_its_own(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("model: m\ndata: {source: owner/rows, format: sharegpt, split: 'train[:6%]', val_size: 0.1}\n")
    assert load_recipe(path).data.format == "sharegpt"
    other = load_recipe(path, ["--data", "mine.parquet"]).data
    assert (other.source, other.format, other.split, other.val_size) == ("mine.parquet", "auto", "train", 0.1)
    assert load_recipe(path, ["--data", "mine.parquet", "--data.format", "alpaca"]).data.format == "alpaca"
    assert load_recipe(path, ["--data", "owner/rows"]).data.format == "sharegpt"
    assert left_out(path, ["--data", "mine.parquet", "--data.format", "alpaca"]) == ["data.split"]
    assert left_out(path, ["--data", "owner/rows"]) == []


def test_a_list_of_one_needs_no_brackets(tmp_path):
    flags = ["--data.names", "rlhf_v", "--model.quantize-parts", "vision", "--evaluation.tasks", "scenes"]
    recipe = load_recipe(None, [*flags, "--objective.type", "dpo", "--model.quantize", "nf4", "--lora.r", "4"])
    assert recipe.data.names == ["rlhf_v"] and recipe.model.quantize_parts == ["vision"]
    assert recipe.evaluation.tasks == ["scenes"]
    online = load_recipe(None, ["--objective.type", "grpo", "--rewards", "accuracy", "--sampler.stop", "</answer>"])
    assert online.sampler.stop == ["</answer>"]
