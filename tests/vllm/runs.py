"""Short online runs with vLLM as their sampler, and what they logged."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from sightline.recipe import normalise, structure
from sightline.training.run import RunResult, train

CASES = [("qwen2_vl", True), ("qwen2_vl", False), ("smolvlm", True), ("smolvlm", False)]
"""Model, and whether an adapter is trained or all weights of the language model."""

AGREE = 1e-4
"""Nats between the log-probs of vLLM and of the trainer."""


def prompts(count: int) -> list[dict[str, Any]]:
    """Rows with images of different sizes."""
    draw = np.random.default_rng(0)
    return [
        {
            "image": Image.fromarray(draw.integers(0, 255, (50 + 9 * i, 70, 3), dtype=np.uint8)),
            "question": f"What is in image {i}?",
        }
        for i in range(count)
    ]


def low_ids(completion_ids: list[list[int]], **_: Any) -> list[float]:
    """A reward that no answer gets in full: weights must move for it."""
    return [sum(token < 250 for token in ids) / len(ids) for ids in completion_ids]


def tree(folder: Path, model: Path, lora: bool, sampler: dict[str, Any], **changes: Any) -> dict[str, Any]:
    """A recipe whose steps move the weights far."""
    return {
        "model": str(model),
        "lora": {"r": 4} if lora else None,
        "output_dir": str(folder),
        "max_steps": 3,
        "learning_rate": 1e-2,
        "lr_scheduler_type": "constant",
        "per_device_train_batch_size": 2,
        "dataloader_num_workers": 0,
        "layout": "prefix",
        "use_cpu": True,
        "objective": {"type": "grpo"},
        "sampler": {"type": "vllm", "num_generations": 4, "max_completion_length": 6, **sampler},
        **changes,
    }


def run(folder: Path, model: Path, lora: bool, sampler: dict[str, Any], **changes: Any) -> RunResult:
    recipe = structure(normalise(tree(folder, model, lora, sampler, **changes)))
    return train(recipe, data=prompts(6), rewards=[low_ids], console=Console(quiet=True))


def steps(folder: Path) -> list[dict[str, Any]]:
    """The steps of metrics.jsonl."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [line for line in lines if "loss" in line]


def differences(folder: Path) -> list[float]:
    """The largest difference of a token's log-probs, in nats, at each step."""
    return [line["sampling/sampling_logp_difference/max"] for line in steps(folder)]
