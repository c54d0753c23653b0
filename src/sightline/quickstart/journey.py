"""The steps of `sightline quickstart`, in the order in which a user of their own model and data would take them."""

import json
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from rich.console import Console
from torch import nn
from transformers import ProcessorMixin

from sightline.config import Recipe
from sightline.config.model import ModelConfig
from sightline.evaluation.record import Record
from sightline.evaluation.run import evaluate
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.scenes import scenes_task
from sightline.files import write_text
from sightline.models.load import load_model, load_processor
from sightline.quickstart.story import Story, metrics, report
from sightline.recipe import load_recipe
from sightline.recipes import path as recipe_path
from sightline.report.html import write_report
from sightline.scenes.pairs import write_pairs
from sightline.training.checkpoint.run_folder import explain_disk_errors
from sightline.training.run import train
from sightline.training.watch.progress import bar


@dataclass
class Journey:
    """Where the journey writes, how it tells of itself, and how long each step took, in seconds."""

    folder: Path
    seed: int
    console: Console
    num_scenes: int
    max_steps: int | None = None
    timings: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Announce a step and time it."""
        self.console.print(f"[bold]{len(self.timings) + 1}. {name}[/bold]", highlight=False)
        started = time.perf_counter()
        yield
        self.timings[name] = time.perf_counter() - started


def quickstart(folder: Path, *, seed: int, console: Console, num_scenes: int, max_steps: int | None = None) -> Path:
    """Run the journey into `folder` and return the report's path.

    seed: of pairs, sampling, order and adapters; the held-out scenes are the same for every seed. num_scenes: images
    to evaluate on. max_steps: fewer optimizer steps than the recipes say, to try the path.
    """
    journey = Journey(folder, seed, console, num_scenes, max_steps)
    task = scenes_task(num_scenes)
    records: dict[str, list[Record]] = {}
    with journey.step("The embedded model answers held-out questions"):
        model, processor = load_model(ModelConfig(name="embedded")), load_processor(ModelConfig(name="embedded"))
        records["base"] = ask(journey, "base", model, processor, task)
    with journey.step("Its own mistakes become preference pairs"), explain_disk_errors(folder):
        with bar(console) as progress:
            line = progress.add_task("Sampling answers", total=None, figures="")
            counts = write_pairs(
                folder / "pairs",
                model,
                processor,
                seed=seed,
                progress=lambda done, total: progress.update(line, completed=done, total=total),
            )
        console.print(f"   {counts} in {folder / 'pairs'}", highlight=False)
    for name, title in (
        ("dpo", "DPO on the pairs"),
        ("control", "Control: supervised fine-tuning on the chosen answers"),
        ("too_eager", "DPO once more, plain and too eager"),
    ):
        with journey.step(title):
            result = train(recipe_of(journey, name), console=console, description=name.replace("_", " "))
            assert result.model is not None
            records[name] = ask(journey, name, result.model, result.processor, task)
    runs = {name: folder / name for name in records if name != "base"}
    story = Story(task=task, records=records, runs=runs, timings=journey.timings)
    write_text(folder / "metrics.json", json.dumps(metrics(story), indent=2) + "\n")
    write_report(folder / "report.html", report(story))
    return folder / "report.html"


def recipe_of(journey: Journey, name: str) -> Recipe:
    """The packaged recipe of a run, on the pairs that the journey made."""
    return load_recipe(
        recipe_path(f"scenes_{name}"),
        [
            *("--data.source", str(journey.folder / "pairs")),
            *("--output-dir", str(journey.folder / name)),
            *("--seed", str(journey.seed)),
            *(("--max-steps", str(journey.max_steps), "--logging-steps", "1") if journey.max_steps else ()),
        ],
    )


def ask(journey: Journey, name: str, model: nn.Module, processor: ProcessorMixin, task: Task) -> list[Record]:
    """The model's answers to the held-out questions, kept in `answers/NAME.jsonl`."""
    path = journey.folder / "answers" / f"{name}.jsonl"
    path.parent.mkdir(exist_ok=True)
    with bar(journey.console) as progress:
        line = progress.add_task(f"Answers of {name}", total=len(task.items), figures="")
        return evaluate(
            model,
            processor,
            task,
            path=path,
            origin={"model": name, "seed": journey.seed},
            batch_size=256,
            progress=lambda done, total: progress.update(line, completed=done, total=total),
        )
