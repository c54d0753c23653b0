"""docs/objectives.md cannot rot: its recipe lines load or are refused as it says, its equations stand in the source."""

import re
from dataclasses import fields
from pathlib import Path
from typing import get_args

import pytest
import yaml

import sightline.objectives
from sightline.config.objective import PART_TYPES, MixConfig, MPOConfig
from sightline.config.online_objectives import OnlineObjectiveConfig
from sightline.errors import RecipeError
from sightline.objectives.objective import build
from sightline.recipe import load_recipe

PAGE = (Path(__file__).parents[2] / "docs" / "objectives.md").read_text(encoding="utf-8")
SOURCE = " ".join(
    " ".join(path.read_text(encoding="utf-8").split())
    for folder in (
        Path(sightline.objectives.__file__).parent,
        Path(sightline.objectives.__file__).parents[1] / "config",
    )
    for path in sorted(folder.rglob("*.py"))
)
OF_WEIGHTS = ("0.8·sigmoid + 0.2·bco_pair + 1.0·sft", "Σ weight·part")


def table_rows(section: str) -> list[list[str]]:
    """Cells of the tables of a section (the page up to "Modifiers" is the section "")."""
    text = PAGE.split("\n## Modifiers")[0] if not section else PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    lines = [line for line in text.splitlines() if line.startswith("| `objective:")]
    return [[cell.strip().replace(r"\|", "|") for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]


def load(cell: str, tmp_path: Path):
    recipe = tmp_path / "recipe.yaml"
    teacher = "reference: {type: teacher, model: t}\n" if "distill" in cell else ""
    recipe.write_text(f"model: m\ndata: d\n{cell.strip('`')}\n{teacher}", encoding="utf-8")
    return load_recipe(recipe).objective


OBJECTIVES, MODIFIERS, REFUSED = table_rows(""), table_rows("Modifiers"), table_rows("Refused")


def test_every_objective_has_one_row():
    types = {*PART_TYPES, "mix", "mpo", *(option().type for option in get_args(OnlineObjectiveConfig))} - {"sigmoid"}
    documented = [yaml.safe_load(row[0].strip("`"))["objective"]["type"] for row in OBJECTIVES]
    assert sorted(documented) == sorted(types)


@pytest.mark.parametrize("row", OBJECTIVES + MODIFIERS, ids=lambda row: row[0])
def test_recipe_lines_load_and_build(row, tmp_path):
    assert build(load(row[0], tmp_path), max_completion_length=64).parts


@pytest.mark.parametrize("row", OBJECTIVES + MODIFIERS, ids=lambda row: row[0])
def test_equations_and_papers_stand_in_the_source(row):
    equation = " ".join(row[1].strip("`").split())
    assert equation in SOURCE or equation in OF_WEIGHTS
    paper = re.search(r"\[(\d{4}\.\d{5})\]", row[2])
    assert row[2] == "–" if paper is None else f"arXiv:{paper[1]}" in SOURCE


def test_moving_references_load_and_their_equation_stands_in_the_source(tmp_path):
    lines = [line for line in PAGE.splitlines() if line.startswith("| `reference:")]
    source = Path(sightline.objectives.__file__).parents[1] / "forward" / "moving_reference.py"
    assert len(lines) == 2
    for line in lines:
        recipe, equation = (cell.strip().strip("`") for cell in line.split("|")[1:3])
        (tmp_path / "recipe.yaml").write_text(f"model: m\ndata: d\nobjective: dpo\n{recipe}\n", encoding="utf-8")
        assert load_recipe(tmp_path / "recipe.yaml").reference.update_every
        assert equation in source.read_text(encoding="utf-8")


@pytest.mark.parametrize("row", REFUSED, ids=lambda row: row[0])
def test_what_the_page_calls_refused_is(row, tmp_path):
    with pytest.raises(RecipeError):
        load(row[0], tmp_path)


def test_the_page_counts_the_comparisons_with_trl_that_are_run():
    from tests.objectives.test_online import TRL_CASES
    from tests.objectives.test_trl import CASES

    assert f"{len(CASES)} pair cases" in PAGE
    assert f"{4 * len(TRL_CASES)} GRPO cases" in PAGE  # each with and without reuse and importance weights


def test_the_weights_of_mpo_are_the_documented_ones():
    weights = " + ".join(f"{weight}·{name}" for name, weight in build(MPOConfig()).weights.items())
    assert weights == OF_WEIGHTS[0]


def test_every_field_of_every_objective_has_a_docstring():
    """Where `sightline train --help` looks: the class itself, or the one that it inherits the field from."""
    kinds = [*PART_TYPES.values(), MixConfig, MPOConfig, *get_args(OnlineObjectiveConfig)]
    undocumented = [
        f"{kind.__name__}.{f.name}"
        for kind in kinds
        for f in fields(kind)
        if f.name != "type"
        and not any(
            base.__pydantic_fields__[f.name].description
            for base in kind.__mro__
            if f.name in getattr(base, "__pydantic_fields__", {})
        )
    ]
    assert undocumented == []
    assert all(kind.__doc__ for kind in kinds)
