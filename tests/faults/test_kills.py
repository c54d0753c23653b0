"""A run that is killed with -9 again and again, and resumed, ends with the bits of one that was left in peace."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file

from tests.training.runs import TIMES, figures

DPO = {
    "objective": {"type": "mpo"},
    "max_steps": 8,
    "learning_rate": 1e-3,
    "per_device_train_batch_size": 2,
    "gradient_accumulation_steps": 2,
    "num_train_epochs": 3,
    "dataloader_num_workers": 2,
    "lora": {"r": 4, "dropout": 0.1},
    "layout": "prefix",
    "logging_steps": 2,
    "eval_steps": 4,
    "save_steps": 3,
    "save_total_limit": 2,
}
GRPO = {
    "objective": {"type": "grpo"},
    "max_steps": 6,
    "learning_rate": 1e-2,
    "per_device_train_batch_size": 2,
    "num_train_epochs": 20,
    "dataloader_num_workers": 0,
    "lora": {"r": 4},
    "layout": "prefix",
    "eval_steps": 3,
    "save_steps": 1,
    "save_total_limit": 2,
    "sampler": {"type": "transformers", "num_generations": 4, "max_completion_length": 5, "num_iterations": 2},
}
PHASES = ["training", "saving", "evaluating"]


def killed(tmp_path: Path, model: Path, recipe: dict[str, Any], **spec: Any) -> list[dict[str, Any]]:
    """Run it whole, and once more with kills; what each attempt came to."""
    spec = {"folder": str(tmp_path), "recipe": {"model": str(model), **recipe}, **spec}
    (tmp_path / "spec.json").write_text(json.dumps(spec))
    command = [sys.executable, "-m", "tests.faults.killed_runs", str(tmp_path / "spec.json")]
    done = subprocess.run(command, env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)}, capture_output=True)
    assert done.returncode == 0, done.stderr.decode()[-4000:]
    # packages may print lines of their own
    attempts = [json.loads(line) for line in done.stdout.splitlines() if line.startswith(b"{")]
    assert attempts[-1]["code"] == 0, done.stderr.decode()[-4000:]
    return attempts


def assert_same_bits(a: Path, b: Path) -> None:
    left, right = (load_file(folder / "adapter_model.safetensors") for folder in (a, b))
    assert left.keys() == right.keys() and left
    assert all(bool((left[name] == right[name]).all()) for name in left)
    assert figures(a) == figures(b)
    ends = [json.loads((folder / "sightline.json").read_text())["metrics"] for folder in (a, b)]
    first, second = ({k: v for k, v in end.items() if not k.startswith(TIMES)} for end in ends)
    assert first == second
    assert not list(a.glob(".*.part")) + list(a.glob(".checkpoint*")) + list(a.glob(".part"))


@pytest.mark.parametrize("seed", [0])
def test_dpo_killed_three_times_ends_with_the_same_bits(tmp_path, tiny_model, seed):
    attempts = killed(tmp_path, tiny_model("llava"), DPO, rows=9, kills=3, within=0.3, phases=PHASES, seed=seed)
    assert [one["phase"] for one in attempts if one["killed"]] == PHASES
    assert_same_bits(tmp_path / "killed", tmp_path / "whole")


def test_a_hybrid_killed_after_a_checkpoint_ends_with_the_same_bits(tmp_path, tiny_model):
    recipe = {**DPO, "max_steps": 4, "save_steps": 2, "dataloader_num_workers": 0}
    # of the five events of a step, the second of the third
    attempts = killed(tmp_path, tiny_model("qwen3_5"), recipe, rows=6, kills=1, phases=["training"], moment=12, seed=0)
    assert [one["killed"] for one in attempts] == [True, False] and attempts[0]["checkpoints"] == ["checkpoint-2"]
    assert_same_bits(tmp_path / "killed", tmp_path / "whole")


def test_a_run_killed_before_its_first_checkpoint_logs_no_step_twice(tmp_path, tiny_model):
    recipe = {**DPO, "max_steps": 3, "save_steps": 3, "logging_steps": 1, "eval_steps": 3, "dataloader_num_workers": 0}
    attempts = killed(tmp_path, tiny_model("llava"), recipe, rows=5, kills=1, phases=["training"], moment=8, seed=0)
    assert [one["killed"] for one in attempts] == [True, False] and attempts[0]["checkpoints"] == []
    assert_same_bits(tmp_path / "killed", tmp_path / "whole")
