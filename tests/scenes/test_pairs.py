from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from sightline.config.data import DataConfig
from sightline.config.model import ModelConfig
from sightline.data.sources.load import load_rows
from sightline.models.load import load_model, load_processor
from sightline.scenes.options import SceneOptions
from sightline.scenes.pairs import sample_pairs, write_pairs
from sightline.scenes.questions import Row, describe, mentions
from sightline.scenes.rows import for_recipe
from sightline.scenes.world import Thing

OPTIONS = SceneOptions(images=100)
EMBEDDED = ModelConfig(name="embedded")


@pytest.fixture(scope="module")
def pairs() -> list[Row]:
    return sample_pairs(load_model(EMBEDDED), load_processor(EMBEDDED), OPTIONS, seed=1)


def of_group(pairs: list[Row], *groups: str) -> list[Row]:
    return [row for row in pairs if row["group"] in groups]


def there(row: Row) -> tuple[Thing, ...]:
    return tuple(Thing(*name.split()) for name in row["objects"])


def test_what_is_chosen_is_true(pairs: list[Row]):
    for row in pairs:
        if row["kind"] == "description":
            assert row["chosen"] == describe(there(row))
        else:
            assert (row["chosen"] == "Yes") == (mentions(row["question"])[0] in there(row))
        assert row["rejected"].lower() != row["chosen"].lower()


def test_hallucinations_are_the_models_own_and_omissions_are_as_many_as_asked_for(pairs: list[Row]):
    hallucinated, omitted = of_group(pairs, "hallucination"), of_group(pairs, "omission")
    assert len(hallucinated) > 30
    assert all(set(mentions(row["rejected"])) - set(there(row)) for row in hallucinated)
    assert len(omitted) == round(SceneOptions().omissions * len(hallucinated))
    for row in omitted:
        assert set(mentions(row["rejected"])) < set(there(row))
        assert len(mentions(row["rejected"])) == len(row["objects"]) - 1


def test_as_many_yeses_as_noes_are_chosen(pairs: list[Row]):
    chosen = Counter(row["chosen"] for row in of_group(pairs, "present", "absent", "companion"))
    assert chosen["No"] > 5
    assert chosen["Yes"] == chosen["No"]


def test_the_same_seed_gives_the_same_pairs_and_another_seed_others(pairs: list[Row]):
    model, processor = load_model(EMBEDDED), load_processor(EMBEDDED)
    config = DataConfig(source="scenes", seed=1, scenes={"images": 100})
    again = for_recipe(config, "dpo", model=model, processor=processor)
    assert [(row["chosen"], row["rejected"]) for row in again] == [(row["chosen"], row["rejected"]) for row in pairs]
    other = sample_pairs(model, processor, SceneOptions(images=20), seed=2)
    assert [row["objects"] for row in other] != [row["objects"] for row in pairs[: len(other)]]


def test_pairs_are_written_as_a_data_set_that_anybody_could_have_written(pairs: list[Row], tmp_path: Path):
    folder = tmp_path / "pairs"
    steps: list[tuple[int, int]] = []
    counts = write_pairs(
        folder,
        load_model(EMBEDDED),
        load_processor(EMBEDDED),
        seed=1,
        options=OPTIONS,
        progress=lambda done, total: steps.append((done, total)),
    )
    assert steps[-1] == (200, 200)
    assert counts.startswith(f"{len(pairs)} pairs (")
    assert [file.name for file in folder.iterdir()] == ["train.parquet"]
    rows = load_rows(DataConfig(source=str(folder)))
    assert len(rows) == len(pairs)
    for number in (0, len(pairs) - 1):
        written, drawn = rows[number], pairs[number]
        assert {name: written[name] for name in drawn if name != "image"} == {
            name: value for name, value in drawn.items() if name != "image"
        }
        image = rows.example(number).images[0].open()
        assert np.array_equal(np.asarray(image), np.asarray(drawn["image"].open()))
