"""Every file of a checkpoint, damaged in every way: the manifest finds it, or it is one paragraph where that agrees."""

import json
import shutil
import struct
from collections.abc import Callable
from pathlib import Path

import pytest

from sightline.errors import UserError
from sightline.training.checkpoint.files import damage, last_checkpoint, seal, trainer_state
from tests.training.runs import curve, lines, pairs, run, said_by

OPTIONS = {
    "max_steps": 2, "save_steps": 1, "data": {"val_size": 2}, "eval_steps": 1, "evaluation": {"best": "eval_loss"},
    "reference": {"update_every": 1, "update_weight": 1.0},
}  # fmt: skip
NOT_READ = ("README.md", "adapter_config.json", "chat_template.jinja", "processor_config.json", "tokenizer")
"""Of a checkpoint, what serves peft and transformers: a resumed run has all of it already."""


@pytest.fixture(scope="module")
def rows():
    return pairs(10)


@pytest.fixture(scope="module")
def whole(tmp_path_factory, tiny_model, rows) -> Path:
    folder = tmp_path_factory.mktemp("whole") / "run"
    run(folder, tiny_model("llava"), rows, **OPTIONS)
    (folder / "sightline.json").unlink()
    return folder


def emptied(path: Path) -> None:
    path.write_bytes(b"")


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def null(path: Path) -> None:
    path.write_bytes(b"null\n")


def of_another_kind(path: Path) -> None:
    """A list where a map is due; tensors that nobody asked for."""
    header = json.dumps({"x": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    tensors = struct.pack("<Q", len(header)) + header + b"\0\0\0\0"
    path.write_bytes(tensors if path.suffix == ".safetensors" else b"[1, 2]\n")


def swapped(path: Path) -> None:
    """With another file of the same suffix."""
    others = [one for one in sorted(path.parent.iterdir()) if one.suffix == path.suffix and one != path]
    other = others[0] if others else path.with_name("trainer_state.json")
    mine, theirs = path.read_bytes(), other.read_bytes()
    path.write_bytes(theirs)
    other.write_bytes(mine)


def removed(path: Path) -> None:
    path.unlink()


def resealed(checkpoint: Path) -> None:
    """Have the manifest agree with what is there now."""
    (checkpoint / "checkpoint.json").unlink()
    seal(checkpoint)


DAMAGES = [emptied, cut, null, of_another_kind, swapped, removed]


def test_whatever_happens_to_a_file_the_checkpoint_before_is_taken(tmp_path, whole):
    names = sorted(path.name for path in (whole / "checkpoint-2").iterdir())
    assert {"recipe.yaml", "evaluation.json", "reference.safetensors", "checkpoint.json"} <= set(names)
    for name in names:
        for hurt in DAMAGES:
            folder = Path(shutil.copytree(whole, tmp_path / f"{name}-{hurt.__name__}"))
            hurt(folder / "checkpoint-2" / name)
            assert damage(folder / "checkpoint-2") is not None, (name, hurt)
            found, said = last_checkpoint(folder)
            assert found == folder / "checkpoint-1" and "checkpoint-2 is damaged and left out" in said[0], (name, hurt)


@pytest.mark.parametrize(
    "manifest",
    [
        {"files": None}, {"files": 3}, {"files": []}, {}, {"files": {"a": None}}, {"files": {"a": "xy"}},
        {"files": {"a": [1]}}, {"files": {"a": [1, "x"]}}, {"files": {}}, {"files": {"recipe.yaml": [0, 0]}}, [], 7,
    ],
)  # fmt: skip
def test_a_manifest_that_is_none_is_said(tmp_path, whole, manifest):
    folder = Path(shutil.copytree(whole / "checkpoint-2", tmp_path / "checkpoint-2"))
    (folder / "checkpoint.json").write_text(json.dumps(manifest))
    assert "its checkpoint.json" in str(damage(folder))


@pytest.mark.parametrize("hurt", [emptied, of_another_kind, swapped])
def test_a_wrong_file_that_the_manifest_agrees_with_is_one_paragraph(tmp_path, tiny_model, rows, whole, hurt):
    tried = 0
    for path in sorted((whole / "checkpoint-2").iterdir()):
        if path.name.startswith(NOT_READ) or path.name == "checkpoint.json":
            continue
        checkpoint = Path(shutil.copytree(whole / "checkpoint-2", tmp_path / path.name / "checkpoint-2"))
        hurt(checkpoint / path.name)
        resealed(checkpoint)
        with pytest.raises(UserError) as caught:
            run(tmp_path / f"run-{path.name}", tiny_model("llava"), rows, **OPTIONS, resume=str(checkpoint))
            pytest.fail(f"{path.name}, {hurt.__name__}: went on")
        assert "\n" not in str(caught.value), (path.name, hurt)
        assert not (tmp_path / f"run-{path.name}" / "adapter_model.safetensors").exists()
        tried += 1
    assert tried == 9


@pytest.mark.parametrize(
    "state",
    [
        None, [], 3, {}, {"global_step": "2", "log_history": []}, {"global_step": -1, "log_history": []},
        {"global_step": 2.0, "log_history": []}, {"global_step": 2, "log_history": None},
        {"global_step": 2, "log_history": [3]},
    ],
)  # fmt: skip
def test_a_trainer_state_of_another_kind_is_one_paragraph(tmp_path, state):
    (tmp_path / "trainer_state.json").write_text(json.dumps(state))
    with pytest.raises(UserError, match="cannot be read, although its files are those") as caught:
        trainer_state(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "state", [{"global_step": 2, "log_history": [], "unknown": 1}, {"global_step": 1, "log_history": []}]
)
def test_a_trainer_state_of_something_else_is_one_paragraph(tmp_path, tiny_model, rows, whole, state):
    checkpoint = Path(shutil.copytree(whole / "checkpoint-2", tmp_path / "checkpoint-2"))
    (checkpoint / "trainer_state.json").write_text(json.dumps(state))
    resealed(checkpoint)
    with pytest.raises(UserError, match=r"checkpoint-2 cannot be read, although .*(unknown|of step 2)"):
        run(tmp_path / "run", tiny_model("llava"), rows, **OPTIONS, resume=str(checkpoint))


@pytest.mark.parametrize("card", ["", "null", "[]", '{"steps": "2"}', '{"steps": 2}'])
def test_a_card_that_is_none_is_one_paragraph(tmp_path, tiny_model, rows, card):
    (tmp_path / "sightline.json").write_text(card)
    with pytest.raises(UserError, match=r"sightline\.json, which says how the run ended, cannot be read"):
        run(tmp_path, tiny_model("llava"), rows, **OPTIONS, resume=True)


def lose(path: Path) -> None:
    path.unlink()


def shorten(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-300])


@pytest.mark.parametrize(
    ("hurt", "said", "steps"),
    [
        (lose, "metrics.jsonl is not there: it begins anew after step 1, and the figures up to then are lost.", [2]),
        (shorten, "Its whole lines are kept, the last of step", None),
    ],
)
def test_missing_figures_are_said(tmp_path, tiny_model, rows, whole, hurt: Callable, said, steps):
    folder = Path(shutil.copytree(whole, tmp_path / "run"))
    shutil.rmtree(folder / "checkpoint-2")
    metrics = folder / "metrics.jsonl"
    kept = json.loads((folder / "checkpoint-1" / "metrics_length.json").read_text())["bytes"]
    metrics.write_bytes(metrics.read_bytes()[:kept])
    hurt(metrics)
    told = said_by(folder, tiny_model("llava"), rows, **OPTIONS, resume=True)
    assert said in told, told
    assert all(isinstance(line, dict) for line in lines(folder))
    if steps is not None:
        assert [line["step"] for line in lines(folder) if "loss" in line] == steps
    assert curve(folder)[-1] == curve(whole)[-1]
