"""Models by name: what the command line says becomes a source, and answers are told apart by weights."""

import json
import shutil
from pathlib import Path

import pytest

from sightline.config import LoraConfig, ModelConfig
from sightline.errors import ModelError
from sightline.evaluation.models import Models, Source, fingerprint, reading_note, source_of
from sightline.models.load import EMBEDDED, load_model, load_processor
from sightline.models.lora import add_lora


def test_a_run_folder_with_an_adapter_names_its_base(tmp_path: Path) -> None:
    (tmp_path / "adapter_config.json").write_text(json.dumps({"base_model_name_or_path": "/elsewhere/model"}))
    assert source_of(f"dpo={tmp_path}") == Source("dpo", "/elsewhere/model", str(tmp_path))
    (tmp_path / "sightline.json").write_text(json.dumps({"base_model": "embedded"}))
    assert source_of(str(tmp_path)) == Source(tmp_path.name, "embedded", str(tmp_path))
    assert source_of("org/model") == Source("model", "org/model")
    assert source_of("folder/a=b") == Source("a=b", "folder/a=b")
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "sightline.json").unlink()
    with pytest.raises(ModelError, match="does not say which model it belongs to"):
        source_of(str(tmp_path))


def test_weights_of_another_training_have_another_fingerprint(tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_bytes(bytes(300_000))
    first = fingerprint(tmp_path)
    assert Source("m", str(tmp_path)).origin["weights"] == [first]
    path.write_bytes(bytes(299_999) + b"x")
    assert fingerprint(tmp_path) != first


def test_a_model_of_the_hub_is_told_by_its_commit_and_its_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    assert Source("m", "org/model").origin["weights"] == [], "nothing is known of a model that was never loaded"
    folder = tmp_path / "models--org--model"
    for commit, text in (("a" * 40, "{}"), ("b" * 40, '{"rope_theta": 1}')):
        (folder / "snapshots" / commit).mkdir(parents=True)
        (folder / "snapshots" / commit / "config.json").write_text(text)
        (folder / "snapshots" / commit / "model.safetensors").write_bytes(bytes(100))
    (folder / "refs").mkdir()
    origins = []
    for commit in ("a" * 40, "b" * 40):
        (folder / "refs" / "main").write_text(commit)
        origins.append(Source("m", "org/model").origin)
    assert [origin["commit"] for origin in origins] == ["a" * 40, "b" * 40]
    assert origins[0]["weights"] != origins[1]["weights"], "the settings differ"
    assert origins[0]["weights"] == [fingerprint(folder / "snapshots" / ("a" * 40))]


def test_two_models_of_one_name_are_refused() -> None:
    with pytest.raises(ModelError, match="Two models are called 'a'"):
        Models([Source("a", "m"), Source("a", "n")])


@pytest.fixture(scope="module")
def tuned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An adapter on the embedded model, beside a processor with an option of its recipe."""
    folder = tmp_path_factory.mktemp("tuned")
    add_lora(load_model(ModelConfig(name="embedded")), LoraConfig(r=2)).save_pretrained(str(folder))
    load_processor(ModelConfig(name="embedded", processor={"rescale_factor": 0.5})).save_pretrained(folder)
    return folder


def _factor(models: Models, label: str) -> float:
    with models.use(label) as (_, processor):
        return processor.image_processor.rescale_factor


def test_an_adapter_reads_images_as_it_was_trained_and_its_base_as_ever(tuned: Path) -> None:
    sources = [Source("base", "embedded"), Source("tuned", "embedded", str(tuned))]
    models = Models(sources)
    assert [_factor(models, label) for label in ("base", "tuned", "base")] == pytest.approx([1 / 255, 0.5, 1 / 255])
    alike = Models(sources, options={"rescale_factor": 0.25})
    assert _factor(alike, "base") == _factor(alike, "tuned") == 0.25
    assert alike.origin("tuned")["processor"] == {"rescale_factor": 0.25} and "processor" not in models.origin("tuned")


def test_an_adapter_on_the_hub_is_found_with_its_base(
    tuned: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    commit, folder = "c" * 40, tmp_path / "models--org--tuned"
    shutil.copytree(tuned, folder / "snapshots" / commit)
    (folder / "refs").mkdir()
    (folder / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    source = source_of("org/tuned")
    assert source == Source("tuned", str(EMBEDDED), "org/tuned") and len(source.origin["weights"]) == 2
    assert _factor(Models([source]), "tuned") == 0.5
    assert source_of("embedded", "org/tuned") == Source("tuned", "embedded", "org/tuned")
    (folder / "snapshots" / commit / "adapter_model.safetensors").rename(tmp_path / "adapter_model.bin")
    with pytest.raises(ModelError, match="such as pickles"):
        _factor(Models([source]), "tuned")


def test_the_recipe_of_a_run_says_which_commit_its_base_is(tuned: Path, tmp_path: Path) -> None:
    shutil.copytree(tuned, tmp_path / "run")
    (tmp_path / "run" / "recipe.yaml").write_text("model: {name: org/base, revision: v1.0}\n")
    (tmp_path / "run" / "sightline.json").write_text(json.dumps({"base_model": "org/base"}))
    assert source_of(str(tmp_path / "run")).revision == "v1.0"


def test_a_comparison_says_where_images_are_not_read_alike(tuned: Path) -> None:
    models = Models([Source("base", "embedded"), Source("tuned", "embedded", str(tuned))])
    processors = {}
    for label in ("base", "tuned"):
        with models.use(label) as (_, processors[label]):
            pass
    note = reading_note(processors)
    assert note is not None and "rescale_factor is 0.00392" in note and "for base and 0.5 for tuned" in note
    assert note.count(" for base") == 1, "nothing else differs"
    assert reading_note({"base": processors["base"], "again": processors["base"]}) is None
