"""Iterative DPO of the embedded model on pairs of its own answers, by three judges, on scenes nothing was chosen on.

truth: the recipe as it is, rewards that know the scenes. self_check: the model asks itself about each object that it
names; no truth is used. continue_blind: half an answer, continued without the image, is the rejected one. Prints a line
a run for docs/own-pairs.md: Hal, Cover and yes/no accuracy with 95% intervals, of base, of SFT on the chosen answers
the last round's pairs (control) and of the run, and the CPU seconds.
"""

import os
import time
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from sightline.config import ModelConfig
from sightline.evaluation.run import evaluate
from sightline.evaluation.summary import Summary, summarise
from sightline.evaluation.tasks.scenes import scenes_task
from sightline.models.load import load_model, load_processor
from sightline.pairs.rounds import train_rounds
from sightline.recipe import load_recipe
from sightline.recipes import path
from sightline.training.run import train

FRESH = 98_000
"""Seed of the scenes that are judged; settings were chosen on seed 90,000."""
NUM_SCENES = 500
SELF = '{self_check: {split: phrases, question: "Is there {claim}?"}}'
DESCRIPTIONS = ["--data.scenes", "{questions: [description], images: 1000}"]
JUDGES: dict[str, list[str]] = {
    "truth": [],
    "self_check": ["--rewards", SELF, *DESCRIPTIONS],
    "continue_blind": ["--rewards", "[]", "--pairs", "continue_blind", *DESCRIPTIONS],
}
"""What the recipe `scenes_rounds` is changed by."""
SEEDS = [int(seed) for seed in os.environ.get("OWN_PAIRS_SEEDS", "0,1,2").split(",")]


def scores(model: Any, processor: Any) -> Summary:
    """Of greedy answers to questions about the fresh scenes."""
    task = scenes_task(NUM_SCENES, seed=FRESH)
    return summarise(task, evaluate(model, processor, task, batch_size=256))


@cache
def base() -> Summary:
    """Of the embedded model as it is."""
    config = ModelConfig(name="embedded")
    return scores(load_model(config), load_processor(config))


def line(name: str, found: Summary) -> str:
    """`Hal 60.5 (56.2–64.7)`, and so on."""
    shown = {"hal": "Hal", "cover": "Cover", "accuracy": "accuracy"}
    figures = (
        f"{label} {(one := found.overall(key)).value:.1f} ({one.low:.1f}–{one.high:.1f})"
        for key, label in shown.items()
    )
    return f"{name}: {', '.join(figures)}"


def distil(folder: Path, seed: int) -> tuple[Summary, float]:
    """The base after learning from the run's model on its own answers, and the CPU seconds of that."""
    flags = ["--reference.adapter", str(folder / "run"), "--output-dir", str(folder / "student")]
    started = time.process_time()
    result = train(
        load_recipe(path("scenes_distill"), [*flags, "--seed", str(seed), "--data.seed", str(seed)]),
        console=Console(quiet=True),
    )
    return scores(result.model, result.processor), time.process_time() - started


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("judge", JUDGES)
def test_pairs_of_its_own(tmp_path: Path, judge: str, seed: int, capsys: pytest.CaptureFixture) -> None:
    flags = ["--seed", str(seed), "--data.seed", str(seed), "--output-dir", str(tmp_path / "run"), *JUDGES[judge]]
    started = time.process_time()
    result = train_rounds(load_recipe(path("scenes_rounds"), flags), console=Console(quiet=True))
    seconds = time.process_time() - started
    after = scores(result.model, result.processor)
    pairs = tmp_path / "run" / "round-1" / "pairs"
    control = train(
        load_recipe(path("scenes_control"), ["--data", str(pairs), "--seed", str(seed), "--max-steps", "180",
                                             "--output-dir", str(tmp_path / "control")]),
        console=Console(quiet=True),
    )  # fmt: skip
    supervised = scores(control.model, control.processor)
    with capsys.disabled():
        print()
        print(line("base", base()))
        print(line(f"{judge}, seed {seed}, {seconds:.0f} CPU-s", after))
        print(line("SFT on the chosen of round 1", supervised))
    if judge == "truth":
        distilled, spent = distil(tmp_path, seed)
        with capsys.disabled():
            print(line(f"base distilled from it, {spent:.0f} CPU-s", distilled))
        gap, left = (one.overall("hal").value - after.overall("hal").value for one in (base(), distilled))
        assert left <= 0.2 * gap and spent <= 60
        assert after.overall("hal").value <= 3 and after.overall("cover").value >= 97
