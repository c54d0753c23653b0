"""Models by name: what the command line says becomes a source, and answers are told apart by weights."""

import json
from pathlib import Path

import pytest

from sightline.errors import ModelError
from sightline.evaluation.models import Models, Source, fingerprint, source_of


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
