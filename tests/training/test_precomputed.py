"""The reference's log-probs on disk: what is computed, what is refused, and that a stopped pass goes on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from sightline.errors import DataError, RecipeError
from sightline.training import reference as precomputed
from tests.training.runs import curve, pairs, run

DISK = {"reference": {"type": "precomputed"}}
FIGURES = ("loss", "grad_norm", "rewards/margins", "logps/chosen")


@pytest.fixture(scope="module")
def rows():
    return pairs(16)


@pytest.fixture(scope="module")
def computed(tmp_path_factory, tiny_model, rows) -> Path:
    folder = tmp_path_factory.mktemp("computed") / "run"
    run(folder, tiny_model("llava"), rows, **DISK, data={"val_size": 4})
    return folder


def differing(one: Path, other: Path) -> list[str]:
    """Figures whose curves are not the same; all of them where a run logged no loss."""
    if not curve(one):
        return list(FIGURES)
    return [name for name in FIGURES if curve(one, name) != pytest.approx(curve(other, name), rel=1e-5, abs=1e-5)]


def test_every_row_is_on_disk_with_the_model_that_answered(computed):
    manifest = json.loads((computed / "reference" / "manifest.json").read_text())
    assert set(manifest) == {"model", "data", "template", "processor"}
    train, held_out = (load_file(computed / "reference" / f"{name}-00000.safetensors") for name in ("train", "eval"))
    assert len(train["length"]) == 12 and len(held_out["length"]) == 4
    assert int(train["length"].sum()) == len(train["logp"]) and bool((train["logp"] < 0).all())


def test_held_out_rows_have_the_figures_of_a_reference_in_memory(tmp_path, tiny_model, rows, computed):
    run(tmp_path / "run", tiny_model("llava"), rows, data={"val_size": 4})
    assert differing(computed, tmp_path / "run") == []
    assert curve(computed, "eval_loss") == pytest.approx(curve(tmp_path / "run", "eval_loss"), abs=1e-5)


@pytest.mark.parametrize(
    "changes",
    [
        {"lora": None, "learning_rate": 1e-4},
        {"lora": {"r": 4, "init": "pissa"}},
        {"lora": {"r": 4, "use_dora": True}},
        {"objective": {"type": "mdpo"}},
        {"objective": {"type": "ddpo"}},
        {"objective": {"type": "aot"}, "layout": "padded"},
    ],
    ids=["all weights", "pissa", "dora", "corrupted images", "corrected segments", "whole step"],
)
def test_it_is_the_same_run_as_with_a_reference_in_memory(tmp_path, tiny_model, rows, changes):
    run(tmp_path / "memory", tiny_model("llava"), rows, **changes)
    run(tmp_path / "disk", tiny_model("llava"), rows, **changes, **DISK)
    assert differing(tmp_path / "disk", tmp_path / "memory") == []


def test_nothing_is_computed_twice_and_a_stopped_pass_goes_on(tmp_path, tiny_model, rows, monkeypatch):
    monkeypatch.setattr(precomputed, "ROWS", 4)
    scored, score = [], precomputed.score_by_policy

    def counting(model, groups, settings):
        scored.extend(group.id for group in groups)
        if len(scored) == 12:
            raise KeyboardInterrupt
        return score(model, groups, settings)

    monkeypatch.setattr(precomputed, "score_by_policy", counting)
    shared = {"reference": {"type": "precomputed", "path": str(tmp_path / "shared")}}
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path / "run", tiny_model("llava"), rows, **shared)
    assert len(list((tmp_path / "shared").glob("train-*.safetensors"))) == 2
    run(tmp_path / "again", tiny_model("llava"), rows, **shared)
    assert scored[12:] == [f"rows:{i}" for i in range(8, 16)], "the first eight were on disk"
    run(tmp_path / "third", tiny_model("llava"), rows, **shared, objective={"type": "ipo"})
    assert len(scored) == 20
    run(tmp_path / "memory", tiny_model("llava"), rows)
    assert differing(tmp_path / "again", tmp_path / "memory") == []


@pytest.mark.parametrize("changed", ["model", "data", "template", "processor"])
def test_a_change_is_refused_by_its_name_and_hash(tmp_path, tiny_model, rows, computed, changed):
    from sightline.models.load import load_processor
    from sightline.rehearsal import tiny_models

    model, used, processor = tiny_model("llava"), rows, None
    folder = computed / "reference"
    changes: dict = {"data": {"val_size": 4}}
    if changed == "model":
        model = tiny_models.save("llava", tmp_path / "other", seed=1)
    elif changed == "data":
        used = [*rows[:-1], {**rows[-1], "chosen": "a fox"}]
    elif changed == "processor":
        changes["data"] |= {"max_length": 500}
    else:
        model = tiny_models.save("llava", tmp_path / "other", seed=0)
        config = tmp_path / "other" / "processor_config.json"
        template = next(path for path in (tmp_path / "other").iterdir() if "template" in path.name)
        template.write_text(template.read_text() + "{# another #}")
        assert config.is_file() and load_processor and processor is None
    reference = {"type": "precomputed", "path": str(folder)}
    with pytest.raises(RecipeError) as caught:
        run(tmp_path / "run", model, used, **changes, reference=reference)
    before = json.loads((folder / "manifest.json").read_text())
    message = str(caught.value)
    assert f"`{changed}` is" in message and f"was {before[changed]}" in message and "\n" not in message
    for other in set(before) - {changed}:
        assert f"`{other}` is" not in message


def test_images_that_change_after_the_rows_are_found(tmp_path, tiny_model, rows, computed):
    from sightline.config import ModelConfig
    from sightline.models.families.find import family_of
    from sightline.models.load import load_model, load_processor
    from tests.groups import make_group

    config = ModelConfig(name=str(tiny_model("llava")))
    group = family_of(load_model(config)).place(make_group(load_processor(config)))
    pixels = group.model_inputs["pixel_values"]
    other = replace(group, model_inputs={**group.model_inputs, "pixel_values": pixels + 0.5})
    reference = precomputed.PrecomputedReference({precomputed.key_of(group): torch.zeros(3)}, tmp_path)
    assert len(reference._of(group)) == 3
    with pytest.raises(DataError, match="differs from when"):
        reference._of(other)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"objective": "kto"}, "answers to other prompts"),
        ({"objective": "sft"}, "has no reference"),
        ({"reference": {"type": "precomputed", "update_every": 2}}, "cannot move"),
        ({"objective": {"type": "grpo", "beta": 0.04}, "rewards": ["length"]}, "samples its answers"),
        ({"data": {"source": "x.jsonl", "streaming": True}}, "streams its rows"),
        ({"reference": {"type": "auto", "path": "x"}}, "is for `reference.type: precomputed`"),
    ],
)
def test_what_cannot_be_computed_before_is_refused(tmp_path, tiny_model, rows, changes, reason):
    with pytest.raises(RecipeError, match=reason):
        run(tmp_path / "run", tiny_model("llava"), rows, **{**DISK, **changes})


def test_a_folder_of_something_else_is_left_alone(tmp_path, tiny_model, rows):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(RecipeError, match="holds files, but no manifest"):
        run(tmp_path / "run", tiny_model("llava"), rows, reference={"type": "precomputed", "path": str(tmp_path)})
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_damaged_files_are_named_with_what_to_do(tmp_path):
    precomputed.check_manifest(tmp_path / "reference", {"model": "1"})
    (tmp_path / "reference" / "train-00000.safetensors").write_bytes(b"{" * 50)
    with pytest.raises(DataError, match=r"train-00000.safetensors is damaged .* computed again"):
        precomputed.read(tmp_path / "reference", {"train": 8})
    (tmp_path / "reference" / "manifest.json").write_text("{")
    with pytest.raises(RecipeError, match=r"manifest.json cannot be read"):
        precomputed.check_manifest(tmp_path / "reference", {"model": "1"})
