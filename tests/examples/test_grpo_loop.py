"""The flat loop gives the online trainer's curve, for GRPO and for GSPO on answers that are used twice."""

import runpy
import sys
from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, Value
from rich.console import Console

from sightline.recipe import normalise, structure
from sightline.training.run import train
from tests.training.runs import curve, pairs

SCRIPT = Path(__file__).parents[2] / "examples" / "grpo_loop.py"
REWARD = "def brevity(completions, **columns):\n    return [-len(c) / 10 for c in completions]\n"


@pytest.fixture
def rows(tmp_path):
    """Eight prompts in a file, and a reward function in another."""
    features = Features(image=Image(), question=Value("string"))
    asked = [{"image": row["image"], "question": f"{row['question']} {i}"} for i, row in enumerate(pairs(8))]
    Dataset.from_list(asked, features=features).to_parquet(tmp_path / "rows.parquet")
    (tmp_path / "rewards.py").write_text(REWARD)
    return tmp_path / "rows.parquet"


def trained(folder, model, rows, objective, iterations):
    tree = {
        "model": str(model), "lora": {"r": 4}, "data": str(rows), "objective": objective, "layout": "prefix",
        "sampler": {"type": "transformers", "num_generations": 4, "max_completion_length": 6,
                    "num_iterations": iterations},
        "rewards": f"{rows.parent / 'rewards.py'}:brevity",
        "output_dir": str(folder), "max_steps": 4, "learning_rate": 1e-2, "per_device_train_batch_size": 3,
        "dataloader_num_workers": 0,
    }  # fmt: skip
    train(structure(normalise(tree)), console=Console(quiet=True))


@pytest.mark.parametrize(
    ("arguments", "objective", "iterations"),
    [([], {"type": "grpo"}, 1), (["--ratio", "answer", "--iterations", "2"], {"type": "gspo"}, 2)],
    ids=["grpo", "gspo"],
)
def test_the_loop_and_the_trainer_have_one_curve(arguments, objective, iterations, rows, tiny_model, monkeypatch):
    folder = rows.parent
    words = ["--model", str(tiny_model("llava")), "--data", str(rows), "--reward", f"{folder / 'rewards.py'}:brevity"]
    words += ["--output-dir", str(folder / "loop"), "--steps", "4", "--prompts", "3", "--answers", "4"]
    words += ["--max-new-tokens", "6", "--learning-rate", "1e-2", "--rank", "4", *arguments]
    monkeypatch.setattr(sys, "argv", ["grpo_loop.py", *words])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    trained(folder / "run", tiny_model("llava"), rows, objective, iterations)
    for name in ("loss", "grad_norm"):
        assert curve(folder / "loop", name) == pytest.approx(curve(folder / "run", name), rel=1e-3, abs=1e-5)
    # a round's reward is logged with its first step
    assert curve(folder / "loop", "reward")[::iterations] == pytest.approx(curve(folder / "run", "reward"), rel=1e-5)
    assert max(curve(folder / "loop", "grad_norm")) > 1e-3


def test_the_loop_stays_short():
    assert len(SCRIPT.read_text().splitlines()) < 250
