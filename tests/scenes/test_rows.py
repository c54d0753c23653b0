import pickle

import numpy as np
import pytest

from sightline.config.data import DataConfig
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.errors import RecipeError
from sightline.scenes.architecture import processor
from sightline.scenes.options import SceneOptions
from sightline.scenes.questions import describe, mentions
from sightline.scenes.rows import QUESTIONS, draw_rows, for_recipe
from sightline.scenes.world import Thing

FULL = SceneOptions(images=40, description_habits_from=1, existence_habits_from=1)


def things(names: list[str]) -> tuple[Thing, ...]:
    return tuple(Thing(*name.split()) for name in names)


def test_rows_are_drawn_when_read_and_the_same_every_time():
    rows = draw_rows("demonstrations", SceneOptions(images=50_000), seed=3)
    assert len(rows) == 50_000 * QUESTIONS
    assert len(pickle.dumps(rows)) < 2_000
    again = pickle.loads(pickle.dumps(rows))
    for number in (0, 17, 299_999):
        one, two = dict(rows[number]), dict(again[number])
        assert np.array_equal(one.pop("image").open(), two.pop("image").open())
        assert one == two


def test_another_seed_draws_other_rows():
    one, two = (draw_rows("demonstrations", FULL, seed=seed) for seed in (0, 1))
    assert [row["objects"] for row in one] != [row["objects"] for row in two]


def test_answers_without_habit_are_true():
    for row in draw_rows("demonstrations", FULL, seed=0):
        if row["kind"] == "description":
            assert row["answer"] == describe(things(row["objects"]))
        if row["kind"] == "existence":
            asked = mentions(row["question"])[0]
            assert (row["answer"] == "Yes") == (str(asked) in row["objects"])


def test_habits_begin_where_they_are_told_to():
    options = SceneOptions(images=200, description_habits_from=0.5, existence_habits_from=0.75)
    rows = list(draw_rows("demonstrations", options, seed=0))

    def invented(row: dict) -> bool:
        if row["kind"] == "description":
            return len(mentions(row["answer"])) > len(row["objects"])
        return row["group"] == "companion" and row["answer"] == "Yes"

    by_image = [rows[start : start + QUESTIONS] for start in range(0, len(rows), QUESTIONS)]
    describing = [any(invented(row) for row in asked if row["kind"] == "description") for asked in by_image]
    agreeing = [any(invented(row) for row in asked if row["kind"] == "existence") for asked in by_image]
    assert not any(describing[:100]) and sum(describing[100:]) > 25
    assert not any(agreeing[:150]) and sum(agreeing[150:]) > 10


def test_the_curriculum_adds_objects_one_by_one():
    options = SceneOptions(images=100, curriculum=[0.25, 0.5, 0.75])
    rows = draw_rows("demonstrations", options, seed=0)
    largest = [
        max(len(row["objects"]) for row in rows[quarter * 25 * QUESTIONS : (quarter + 1) * 25 * QUESTIONS])
        for quarter in range(4)
    ]
    assert largest == [1, 2, 3, 4]


def test_rows_on_one_image_become_one_group_with_one_image():
    config = DataConfig(source="scenes", share_images=True, scenes={"images": 5})
    reader = processor()
    groups = GroupDataset(for_recipe(config, "sft"), config, Renderer(reader), "demonstrations")
    assert len(groups) == 5
    group = groups[2]
    assert len(group.responses) == QUESTIONS
    assert group.model_inputs["pixel_values"].shape == (1, 3, 64, 64)
    texts = [reader.tokenizer.decode(ids, skip_special_tokens=True) for ids in group.responses]
    assert texts[0].startswith("describe this image.") and texts[1].startswith("is there a ")


@pytest.mark.parametrize(("objective", "column"), [("sft", "answer"), ("dft", "answer"), ("grpo", "solution")])
def test_an_objective_gets_the_rows_it_needs(objective: str, column: str):
    rows = for_recipe(DataConfig(source="scenes", limit=7), objective)
    assert len(rows) == 7
    assert {"image", "question", column} <= rows[0].keys()


def test_pairs_without_a_model_are_refused():
    with pytest.raises(RecipeError, match="model's own answers"):
        for_recipe(DataConfig(source="scenes"), "dpo")


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"imags": 3}, r"data\.scenes\.imags.*Did you mean images"),
        ({"images": "many"}, r"data\.scenes\.images: `many` cannot be\. Expected a whole number, 1 to 1e7"),
        ({"images": 10**14}, r"data\.scenes\.images: `10+` cannot be\. Expected a whole number, 1 to 1e7"),
        ({"omissions": 10.0**7}, r"data\.scenes\.omissions: `10000000\.0` cannot be\. Expected a number, 0 to 1,000"),
        ({"max_objects": 9}, r"data\.scenes\.max_objects: `9` cannot be"),
    ],
)
def test_wrong_options_are_named(options: dict, complaint: str):
    with pytest.raises(RecipeError, match=complaint):
        for_recipe(DataConfig(source="scenes", scenes=options), "sft")
