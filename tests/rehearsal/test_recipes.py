"""Every recipe that ships loads, is planned for what its heading says, and runs three real steps on a tiny model."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sightline.memory.estimator import Estimator, is_sharded
from sightline.memory.sample import usual_sizes
from sightline.memory.shapes import find_config
from sightline.recipe import load_recipe
from sightline.rehearsal.rehearse import rehearse
from sightline.rehearsal.shrink import STEPS
from sightline.training.distributed.requested import requested_engine
from tests.training.runs import curve, lines

FOLDER = Path(__file__).parents[2] / "recipes"
RECIPES = sorted(FOLDER.glob("*.yaml"))
REAL = [path for path in RECIPES if not path.stem.startswith("scenes")]
PLANNED = re.compile(r"([\d.]+) GiB planned(?: on each of (\d+))?")


def commands(path: Path) -> list[list[str]]:
    """The commands in a recipe's heading, a word an entry, without what is said after them."""
    heading = re.sub(r"\\\n#\s+", "", path.read_text().partition("\nmodel:")[0])
    return [shlex.split(re.split(" {3,}", line[4:])[0]) for line in heading.splitlines() if line.startswith("#   ")]


def as_written(path: Path) -> tuple[Any, int]:
    """The recipe as the heading's own command trains it, and on how many GPUs."""
    command = next(words for words in commands(path) if words[1] == "train" and "--rehearse" not in words)
    recipe: Any = load_recipe(path, command[3:])
    return recipe, recipe.nproc_per_node or 1


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_the_commands_of_a_heading_can_be_started(path):
    """The same GPUs are planned, rehearsed and trained on, and the engine takes them."""
    _, gpus = as_written(path)
    for name, verb, file, *flags in commands(path):
        assert (name, file) == ("sightline", f"recipes/{path.name}")
        if verb == "plan":
            assert flags[2:] == ([] if gpus == 1 else ["--gpus", str(gpus)])
            continue
        recipe = load_recipe(path, [flag for flag in flags if flag != "--rehearse"])
        assert "--rehearse" not in flags or (recipe.nproc_per_node or 1) == gpus
        requested_engine(recipe).check_recipe(recipe, recipe.nproc_per_node or 1)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_is_headed_by_what_a_user_needs(path):
    heading = path.read_text().partition("\nmodel:")[0]
    assert f"sightline train recipes/{path.name}" in heading
    if path in REAL:
        words = ("--rehearse", "sightline plan", "# Hardware:", "# Expected", "# Where the numbers come from:")
        assert all(word in heading for word in words)
    assert f"`{path.stem}`" in (FOLDER.parent / "docs" / "recipes.md").read_text() or path not in REAL


@pytest.mark.parametrize("path", REAL, ids=lambda path: path.stem)
def test_a_heading_says_what_is_planned(path):
    """What stays for the whole run, from a config of the real shape; tests/full has the peaks to a tenth."""
    found = PLANNED.search(path.read_text())
    assert found is not None
    recipe, gpus = as_written(path)
    said = float(found[1])
    assert gpus == int(found[2] or 1) and is_sharded(recipe, gpus) == (gpus > 1)
    estimator = Estimator(find_config(recipe.model), usual_sizes(recipe))
    stays = sum(line.bytes for line in estimator.static(recipe, gpus=gpus)) / 2**30
    assert 0.3 * said < stays < said


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_three_real_steps(path, tmp_path, monkeypatch):
    """Same processor class, same format of rows; curves and plans have tests of their own."""
    monkeypatch.setattr("sightline.rehearsal.rehearse.planned_peak", lambda *_: 0)
    recipe = load_recipe(path, ["--use-cpu", "--dataloader-num-workers", "0"])
    with (tmp_path / "said.txt").open("w") as said:
        result = rehearse(recipe, tmp_path / "rehearsal", console=Console(file=said, width=200))
    assert len(curve(result.folder)) == STEPS
    held_out = recipe.data.val_size > 0 or recipe.data.eval_source is not None
    assert any("eval_" in name for line in lines(result.folder) for name in line) == held_out
    told = (tmp_path / "said.txt").read_text()
    assert (
        "Loaded again, it answers" in told and f"for {recipe.model.name}" in told
    ) or recipe.model.name == "embedded"
