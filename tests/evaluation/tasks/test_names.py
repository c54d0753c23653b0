"""The names that a recipe's `evaluation.tasks` may have are those of the tasks there are."""

import pytest

from sightline.config.evaluation import TASKS
from sightline.errors import RecipeError
from sightline.evaluation.tasks.registry import BENCHMARKS
from sightline.recipe import load_recipe


def test_a_recipe_knows_the_names_of_all_tasks():
    assert set(TASKS) == {"scenes", *BENCHMARKS}


def test_a_misspelt_task_is_named_when_the_recipe_is_read():
    with pytest.raises(RecipeError, match=r"there is no task `sceens`\. Did you mean `scenes`\?"):
        load_recipe(None, ["--evaluation.tasks", "sceens"])
    assert load_recipe(None, ["--evaluation.tasks", "my.py:task"]).evaluation.tasks == ["my.py:task"]
