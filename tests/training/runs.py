"""Small real runs for the tests: rows with images, a recipe, and the curve that came out."""

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console

from sightline.config import Recipe
from sightline.recipe import normalise, structure
from sightline.training.run import RunResult, train

WORDS = ["red", "blue", "square", "circle", "yes", "no", "the", "fox", "dog", "over", "lazy"]


def pairs(count: int, seed: int = 0) -> list[dict[str, Any]]:
    """Rows with an image, a question and two answers of uneven lengths."""
    draw = np.random.default_rng(seed)

    def answer() -> str:
        return " ".join(draw.choice(WORDS, size=int(draw.integers(1, 9))))

    rows = []
    for _ in range(count):
        image = Image.fromarray(draw.integers(0, 255, (50, 70, 3), dtype=np.uint8))
        chosen, rejected = answer(), answer() + " quick"
        rows.append({"image": image, "question": "What is shown?", "chosen": chosen, "rejected": rejected})
    return rows


def recipe_of(folder: Path, model: Path, /, **changes: Any) -> Recipe:
    """A few steps on the CPU without workers; `changes` are recipe fields."""
    tree = {
        "model": str(model),
        "output_dir": str(folder),
        "max_steps": 4,
        "learning_rate": 1e-3,
        "per_device_train_batch_size": 4,
        "dataloader_num_workers": 0,
        "lora": {"r": 4},
        "objective": {"type": "dpo"},
        "layout": "prefix",
        **changes,
    }
    return structure(normalise(tree))


def run(folder: Path, model: Path, rows: list[dict[str, Any]], /, **changes: Any) -> RunResult:
    """Train by `recipe_of` these."""
    return train(recipe_of(folder, model, **changes), data=rows, console=Console(quiet=True))


def said_by(folder: Path, model: Path, rows: list[dict[str, Any]], /, **changes: Any) -> str:
    """What the same says on the terminal."""
    said = io.StringIO()
    train(recipe_of(folder, model, **changes), data=rows, console=Console(file=said, width=10_000))
    return said.getvalue()


def lines(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl as objects."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def curve(folder: Path, name: str = "loss") -> list[float]:
    """One figure of every step that logged it."""
    return [line[name] for line in lines(folder) if name in line]


TIMES = (
    "memory/",
    "seconds/",
    *(f"{name}_{what}" for name in ("train", "eval") for what in ("runtime", "samples", "steps")),
)
"""How figures begin that are never the same twice."""


def figures(folder: Path) -> list[dict[str, Any]]:
    """metrics.jsonl without what measures time and memory: what two equal runs have in common."""
    return [{name: value for name, value in line.items() if not name.startswith(TIMES)} for line in lines(folder)]
