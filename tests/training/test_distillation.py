"""A student that learns from a teacher on its own completions."""

from pathlib import Path

import pytest
import torch
from rich.console import Console
from safetensors.torch import load_file, save_file

from sightline.errors import ModelError, RecipeError
from sightline.forward.plain import log_probs
from sightline.recipe import normalise, structure
from sightline.training.online.trainer import OnlineTrainer
from sightline.training.run import train
from tests.training.runs import curve
from tests.training.test_online import prompts, same, weights

pytestmark = pytest.mark.usefixtures("without_drawing")


@pytest.fixture(scope="module")
def model(tiny_model):
    return tiny_model("llava")


@pytest.fixture(scope="module")
def teacher(tmp_path_factory, model) -> Path:
    """The same model with another head: some tokens are much likelier."""
    import shutil

    folder = tmp_path_factory.mktemp("teacher") / "model"
    shutil.copytree(model, folder)
    tensors = load_file(folder / "model.safetensors")
    name = next(key for key in tensors if key.endswith("lm_head.weight"))
    draw = torch.Generator().manual_seed(1)
    tensors[name] = tensors[name] + 0.5 * torch.randn(tensors[name].shape, generator=draw).to(tensors[name].dtype)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def recipe_of(folder: Path, model: Path, teacher: Path, **changes):
    tree = {
        "model": str(model),
        "output_dir": str(folder),
        "max_steps": 2,
        "learning_rate": 1e-2,
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "layout": "prefix",
        "objective": {"type": "distill"},
        "reference": {"type": "teacher", "model": str(teacher)},
        "sampler": {"type": "transformers", "num_generations": 2, "max_completion_length": 5},
        **changes,
    }
    return structure(normalise(tree))


def run(folder: Path, model: Path, teacher: Path, **changes):
    return train(recipe_of(folder, model, teacher, **changes), data=prompts(6), console=Console(quiet=True))


def test_the_loss_is_the_gap_to_what_the_teacher_itself_says(tmp_path, model, teacher, loaded, monkeypatch):
    kept = []
    real = OnlineTrainer._groups
    monkeypatch.setattr(OnlineTrainer, "_groups", lambda self, *a: kept.append(real(self, *a)) or kept[-1])
    result = run(tmp_path / "run", model, teacher, max_steps=1)
    from sightline.config import ModelConfig
    from sightline.models.load import load_model

    both = [load_model(ModelConfig(name=str(folder))) for folder in (model, teacher)]
    with torch.no_grad():
        gaps = [
            torch.cat([a - b for a, b in zip(*(log_probs(one, group, "llava") for one in both), strict=True)])
            for group in kept[0][0]
        ]
    assert curve(result.folder, "loss")[0] == pytest.approx(torch.cat(gaps).mean().item(), abs=1e-4)
    assert curve(result.folder, "kl")[0] == pytest.approx(torch.cat(gaps).mean().item(), abs=1e-4)


def test_a_student_comes_closer_to_its_teacher(tmp_path, model, teacher):
    result = run(tmp_path / "run", model, teacher, max_steps=40, sampler={"type": "transformers", "num_generations": 8,
                 "max_completion_length": 5}, lora=None, learning_rate=1e-2)  # fmt: skip
    gap = curve(result.folder, "kl")
    assert sum(gap[-5:]) < 0.8 * sum(gap[:5])


def test_a_teacher_that_is_the_student_teaches_nothing_and_a_resumed_run_is_the_same(tmp_path, model, teacher):
    itself = run(tmp_path / "itself", model, model)
    assert curve(itself.folder, "kl")[0] == pytest.approx(0.0, abs=1e-6)
    options = {"save_steps": 1, "lr_scheduler_type": "constant"}
    whole = run(tmp_path / "whole", model, teacher, **options)
    run(tmp_path / "part", model, teacher, **{**options, "max_steps": 1})
    run(tmp_path / "part", model, teacher, resume=True, **options)
    assert same(weights(whole.folder), weights(tmp_path / "part"))


def test_a_teacher_of_another_kind_is_refused_by_name(tmp_path, model, tiny_model):
    with pytest.raises(ModelError, match=r"has another model type than the student \(qwen2_vl, not llava\)"):
        run(tmp_path / "run", model, tiny_model("qwen2_vl"))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"reference": {"type": "auto"}}, "learns from a teacher"),
        ({"reference": {"type": "teacher"}}, "needs `reference.model`"),
        ({"objective": {"type": "dpo"}, "sampler": None}, "is for `objective.type: distill`"),
        ({"objective": {"type": "grpo"}, "reference": {"type": "auto", "model": "x"}}, "describe a teacher"),
        ({"rewards": ["length"]}, "`rewards` would do nothing"),
    ],
)
def test_what_cannot_be_is_refused(tmp_path, model, changes, said):
    with pytest.raises(RecipeError) as told:
        run(tmp_path / "run", model, model, **changes)
    assert said in str(told.value)
