"""Recipes: YAML and flags into checked dataclasses, and what the user reads when they are wrong."""

from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from pydantic import TypeAdapter, ValidationError

from sightline.config import DPOConfig, Recipe, SFTConfig
from sightline.config.complaint import all_names, dataclasses_in
from sightline.config.numbers import expected_number, kind_of_number
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
        (["--objective.beta", "-1"], "`objective.beta: -1` cannot be. Expected a number, above 0, up to 1e6."),
        (["--learning-rate", "fast"], "`learning_rate: fast` cannot be. Expected a number, 0 to 100."),
        (["--objective.type", "sft", "--objective.beta", "1"], "`objective.type: sft` takes"),
        (["--seed", "1", "--seed", "2"], "given twice"),
        (["seed"], "neither a flag nor its value"),
        (["--lora.alpha", "0"], "above 0"),
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
        ("data: {limit: many}\n", "line 1: `data.limit: many` cannot be. Expected a whole number, 1 to 1e12."),
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


def test_other_rows_keep_the_names_of_columns_unless_others_are_given(tmp_path):
    path = write(tmp_path, "model: m\ndata: {source: owner/rows, columns: {question: problem}, format: columns}\n")
    other = load_recipe(path, ["--data", "mine.parquet"]).data
    assert (other.columns, other.format) == ({"question": "problem"}, "auto")
    assert load_recipe(path, ["--data", "mine.parquet", "--data.columns", "{}"]).data.columns == {}
    assert load_recipe(path, ["--data", "mine.parquet", "--data.columns.answer", "text"]).data.columns == {
        "question": "problem", "answer": "text",
    }  # fmt: skip
    assert left_out(path, ["--data", "mine.parquet"]) == ["data.format"]


def test_a_list_of_one_needs_no_brackets(tmp_path):
    flags = ["--data.names", "rlhf_v", "--model.quantize-parts", "vision", "--evaluation.tasks", "scenes"]
    recipe = load_recipe(None, [*flags, "--objective.type", "dpo", "--model.quantize", "nf4", "--lora.r", "4"])
    assert recipe.data.names == ["rlhf_v"] and recipe.model.quantize_parts == ["vision"]
    assert recipe.evaluation.tasks == ["scenes"]
    online = load_recipe(None, ["--objective.type", "grpo", "--rewards", "accuracy", "--sampler.stop", "</answer>"])
    assert online.sampler.stop == ["</answer>"]


def numbers(owner: Any = Recipe, prefix: str = "") -> Iterator[tuple[str, Any, Any]]:
    """Every numeric field that a recipe can have: dotted name, the dataclass that holds it, the field."""
    for f in fields(owner):
        info = owner.__pydantic_fields__[f.name]
        if kind_of_number(info.annotation) is not None:
            yield prefix + f.name, owner, info
        for option in dataclasses_in(f.type):
            yield from numbers(option, f"{prefix}{f.name}.")


def every_plain_number(owner: Any) -> list[str]:
    """Fields that are numbers by their annotation, whether or not they were declared with a range."""
    plain = [(f.name, get_args(f.type) if get_origin(f.type) is not Annotated else ()) for f in fields(owner)]
    return [name for name, kinds in plain if int in kinds or float in kinds]


def test_every_number_of_a_recipe_declares_a_finite_range():
    found = list(numbers())
    assert len(found) > 150  # each objective's and sampler's own counted
    for name, owner, info in found:
        limits = {key for limit in info.metadata for key in ("gt", "ge", "lt", "le") if hasattr(limit, key)}
        assert limits & {"gt", "ge"} and limits & {"lt", "le"}, name
        assert every_plain_number(owner) == [], name


@pytest.mark.parametrize(
    "value", [True, "true", float("inf"), float("nan"), "1e400", "-1e400", "1e-400", 10**30, [1], {}, "x"]
)
def test_what_is_no_number_in_range_is_refused_for_every_numeric_field(value):
    for name, owner, info in numbers():
        with pytest.raises(ValidationError) as error:
            TypeAdapter(owner).validate_python({info.alias or name.rpartition(".")[2]: value})
        assert expected_number(info) is not None, name
        assert any(e["loc"][0] == name.rpartition(".")[2] for e in error.value.errors()), name


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (
            ["--seed", "4294967296"],
            "`seed: 4294967296` cannot be. Expected a whole number, 0 to 4,294,967,295.",
        ),
        (["--seed", "-1"], "`seed: -1` cannot be."),
        (["--learning-rate", "1e-400"], "So small a number would be 0. Expected a number, 0 to 100."),
        (["--lora.r", "100000000000"], "Expected a whole number, 1 to 65,536."),
        (["--dataloader-num-workers", "100000"], "0 to 512"),
        (["--data.mixture", "[{source: a, weight: 1000000000}]"], "`data.mixture.0.weight: 1000000000` cannot be."),
        (["--max-steps", "0"], "would train nothing"),
        (["--evaluation.tasks", "scenes", "--evaluation.limits", "{scenes/hal: .inf}"], "finite number"),
        (["--objective.type", "grpo", "--rewards", "{accuracy: .inf}"], "`rewards.0.weight: inf` cannot be."),
        (["--objective.type", "mix", "--objective.parts", "{dpo: {label_smoothing: 7}}"], "from 0, below 0.5"),
    ],
)
def test_a_number_out_of_range_is_named_with_the_range(flags, said):
    with pytest.raises(RecipeError) as error:
        load_recipe(None, flags)
    assert said in str(error.value)


@pytest.mark.parametrize(
    "flag",
    ["learning-rate", "max-steps", "seed", "objective.beta", "output-dir", "model", "objective", "rewards", "layout",
     "data.names", "data.columns", "data.mixture", "warmup-steps", "optim", "lora.target-modules", "run-name"],
)  # fmt: skip
def test_a_flag_without_its_value_is_an_error(flag):
    with pytest.raises(RecipeError, match=f"was given without its value: write `--{flag} VALUE`"):
        load_recipe(None, [f"--{flag}"])
    with pytest.raises(RecipeError, match="was given without its value"):
        load_recipe(None, [f"--{flag}", "--shuffle"])


def test_earlier_names_of_keys_in_groups_are_read(tmp_path):
    """`data.share_pictures`, `data.scenes.pictures`, in YAML and as flags; beside the present name they are refused."""
    (tmp_path / "recipe.yaml").write_text("data: {source: scenes, share_pictures: true, scenes: {pictures: 7}}\n")
    recipe = load_recipe(tmp_path / "recipe.yaml")
    assert recipe.data.share_images and recipe.data.scenes == {"images": 7}
    assert load_recipe(None, ["--data.source", "scenes", "--data.share_pictures"]).data.share_images
    with pytest.raises(RecipeError, match="share_pictures"):
        load_recipe(None, ["--data.source", "scenes", "--data.share_pictures", "--data.share_images"])
