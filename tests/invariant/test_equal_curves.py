"""Runs that differ only in how they are computed have one curve."""

import shutil
from pathlib import Path

import pytest
from safetensors.torch import load_file

from tests.training.runs import curve, pairs, run


@pytest.fixture(scope="module")
def rows():
    return pairs(16)


@pytest.fixture(scope="module")
def baseline(tmp_path_factory, tiny_model, rows) -> Path:
    folder = tmp_path_factory.mktemp("baseline")
    run(folder / "run", tiny_model("smolvlm"), rows)
    return folder / "run"


@pytest.mark.parametrize(
    "changes",
    [
        {"per_device_train_batch_size": 1, "gradient_accumulation_steps": 4},
        {"per_device_train_batch_size": 2, "gradient_accumulation_steps": 2},
        {"layout": "padded"},
        {"reference": {"type": "frozen-copy"}},
        {"reference": {"type": "precomputed"}},
        {"gradient_checkpointing": True},
        {"gradient_checkpointing": "selective"},
        {"dataloader_num_workers": 2},
    ],
    ids=["one-by-one", "two-by-two", "padded", "frozen-copy", "precomputed", "checkpointing", "selective", "workers"],
)
def test_a_run_has_the_same_curve_however_it_is_computed(tmp_path, tiny_model, rows, baseline, changes):
    run(tmp_path / "run", tiny_model("smolvlm"), rows, **changes)
    for name in ("loss", "grad_norm", "rewards/margins", "logps/chosen"):
        assert curve(tmp_path / "run", name) == pytest.approx(curve(baseline, name), rel=1e-5, abs=1e-5)
    assert len(curve(baseline)) == 4 and abs(curve(baseline)[3] - curve(baseline)[0]) > 1e-4


def test_another_seed_has_another_curve(tmp_path, tiny_model, rows, baseline):
    run(tmp_path / "run", tiny_model("smolvlm"), rows, seed=1)
    assert curve(tmp_path / "run", "logps/chosen") != pytest.approx(curve(baseline, "logps/chosen"), rel=1e-3)


def test_a_resumed_run_ends_with_the_same_bits(tmp_path, tiny_model, rows):
    options = {"max_steps": 6, "num_train_epochs": 2, "lora": {"r": 4, "dropout": 0.1}, "save_steps": 3}
    whole = run(tmp_path / "whole", tiny_model("llava"), rows, **options)
    half = tmp_path / "half"
    run(half, tiny_model("llava"), rows, **options)
    for name in ("adapter_model.safetensors", "sightline.json"):
        (half / name).unlink()  # as if the run had died after step 3
    for checkpoint in half.glob("checkpoint-6"):
        for file in checkpoint.iterdir():
            file.unlink()
    resumed = run(half, tiny_model("llava"), rows, **options, resume=True)
    assert curve(half) == curve(tmp_path / "whole")
    weights, again = (load_file(r.folder / "adapter_model.safetensors") for r in (whole, resumed))
    assert weights.keys() == again.keys()
    assert all(bool((weights[name] == again[name]).all()) for name in weights)


@pytest.mark.parametrize("family", ["llava", "qwen2_vl", "paligemma"])
def test_a_resumed_full_run_ends_with_the_same_bits(tmp_path, tiny_model, rows, family):
    """Names in the files of some families are not those of the modules."""
    options = {"max_steps": 4, "num_train_epochs": 2, "lora": None, "save_steps": 2, "objective": {"type": "sft"}}
    whole = run(tmp_path / "whole", tiny_model(family), rows, **options)
    half = tmp_path / "half"
    run(half, tiny_model(family), rows, **options)
    for name in ("model.safetensors", "sightline.json"):
        (half / name).unlink()
    shutil.rmtree(half / "checkpoint-4")
    resumed = run(half, tiny_model(family), rows, **options, resume=True)
    assert curve(half) == curve(tmp_path / "whole")
    weights, again = (load_file(r.folder / "model.safetensors") for r in (whole, resumed))
    assert weights.keys() == again.keys()
    assert all(bool((weights[name] == again[name]).all()) for name in weights)


def test_the_objective_decides_what_a_full_run_does(tmp_path, tiny_model, rows):
    full = run(tmp_path / "full", tiny_model("llava"), rows, lora=None, learning_rate=1e-4)
    assert curve(full.folder)[0] == pytest.approx(0.6931, abs=1e-4)
    assert curve(full.folder)[3] < 0.69


def test_a_moving_reference_changes_the_curve_and_survives_a_resume(tmp_path, tiny_model, rows):
    fixed = run(tmp_path / "fixed", tiny_model("llava"), rows, max_steps=4)
    options = {"reference": {"update_every": 1, "update_weight": 0.5}, "save_steps": 2, "max_steps": 4}
    moving = run(tmp_path / "moving", tiny_model("llava"), rows, **options)
    assert curve(moving.folder)[0] == pytest.approx(curve(fixed.folder)[0], abs=1e-6)
    assert curve(moving.folder)[3] != pytest.approx(curve(fixed.folder)[3], abs=1e-5)
    (moving.folder / "sightline.json").unlink()
    for file in (moving.folder / "checkpoint-4").iterdir():
        file.unlink()
    before = curve(moving.folder)
    run(moving.folder, tiny_model("llava"), rows, **options, resume=True)
    assert curve(moving.folder) == before


def test_the_running_shift_goes_on_where_the_checkpoint_left_it(tmp_path, tiny_model, rows):
    """δ is the mean of all rewards so far: starting it anew at step 3 would change every later loss."""
    objective = {"type": "bco_pair", "running_shift": True}
    options = {"objective": objective, "max_steps": 4, "save_steps": 2}
    whole = run(tmp_path / "run", tiny_model("llava"), rows, **options)
    before = {name: curve(whole.folder, name) for name in ("loss", "rewards/shift")}
    assert len(set(before["rewards/shift"])) == 4
    (whole.folder / "sightline.json").unlink()
    shutil.rmtree(whole.folder / "checkpoint-4")
    run(whole.folder, tiny_model("llava"), rows, **options, resume=True)
    assert {name: curve(whole.folder, name) for name in before} == before
