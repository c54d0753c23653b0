"""The end of a run, whose model is saved: curves, report, and a card about the run."""

import json
import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from sightline import __version__
from sightline.config import Recipe
from sightline.evaluation.asking import asking_of
from sightline.files import METRICS, MODEL_CARD, RECIPE, RUN_CARD, write_text
from sightline.report.card import card
from sightline.report.contents import Report
from sightline.report.curves import draw_curves
from sightline.report.html import write_report
from sightline.training.checkpoint.start import stop_rules
from sightline.training.online.tables import sampled_rounds
from sightline.training.trainer import AlignmentTrainer
from sightline.training.watch.scores import BEST, Watch

REPORT = "report.html"
PACKAGES = ("torch", "transformers", "peft", "accelerate", "datasets")


def finish(
    trainer: AlignmentTrainer, folder: Path, recipe: Recipe, seconds: float, watch: Watch | None = None
) -> dict[str, float]:
    """Draw curves and report, write the run card last; returns the last figure of each name, on the main process."""
    if not trainer.is_world_process_zero():
        return {}
    figures = {
        name: float(value)
        for line in trainer.state.log_history
        for name, value in line.items()
        if isinstance(value, int | float)
    }
    curves = draw_curves(folder / METRICS, folder / "curves")
    report = Report(
        title=f"{recipe.objective.type.upper()} of {Path(recipe.model.name).name or 'a model'}",
        headline=headline(
            trainer.state.global_step, seconds, figures, early=watch is not None and watch.stopped is not None
        ),
        curves=tuple(curves),
        rounds=sampled_rounds(folder),
        recipe=(folder / RECIPE).read_text(encoding="utf-8"),
        timings={"training": seconds},
        versions=versions(),
        notes=(*watched(watch), *row_notes(trainer, recipe)),
    )
    write_report(folder / REPORT, report)
    run = {
        "sightline": __version__,
        "versions": versions(),
        "python": platform.python_version(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() and not recipe.use_cpu else "cpu",
        "processes": trainer.accelerator.num_processes,
        "engine": trainer.engine.description,
        "base_model": recipe.model.name,
        "steps": trainer.state.global_step,
        "steps_per_epoch": trainer.num_steps_per_pass(),
        "seconds": round(seconds, 2),
        "rows_skipped": len(trainer.rows_seen.bad),
        "rows_truncated": len(trainer.rows_seen.truncated.known),
        "metrics": figures,
        **({} if watch is None else watch_card(watch, recipe)),
    }
    write_text(folder / MODEL_CARD, model_card(folder, recipe, run))
    write_text(folder / RUN_CARD, json.dumps(run, indent=2) + "\n")
    return figures


def model_card(folder: Path, recipe: Recipe, run: dict[str, Any]) -> str:
    """The README.md of a run's folder, as the hub shows it. run: what goes into `sightline.json`."""
    return card(
        name=folder.name,
        base=recipe.model.name or "a model in memory",
        recipe=recipe,
        run=run,
        curves=[f"curves/{curve.name}" for curve in sorted((folder / "curves").glob("*.png"))],
        asking=asking_of(recipe),
        is_adapter=recipe.lora is not None,
    )


def watch_card(watch: Watch, recipe: Recipe) -> dict[str, Any]:
    """The card's entries on an early stop, with the rules that it followed from, and on the best weights."""
    rules = stop_rules(recipe.evaluation)
    return {"stopped": watch.stopped, "stop_rules": rules, "best": watch.best, "best_step": watch.best_step}


def row_notes(trainer: AlignmentTrainer, recipe: Recipe) -> tuple[str, ...]:
    """Sentences on rows that were left out, and one on those that were trimmed."""
    trimmed = trainer.rows_seen.truncated.sentence(recipe.data.max_length)
    left_out = tuple(f"Left out: {message}" for message in trainer.rows_seen.bad.values())
    return (*left_out, f"{trimmed}.") if trimmed else left_out


def watched(watch: Watch | None) -> tuple[str, ...]:
    """Sentences on an early stop and on the best weights."""
    sentences = []
    if watch is not None and watch.stopped is not None:
        sentences.append(f"Stopped early: {watch.stopped}.")
    if watch is not None and watch.best_step is not None:
        sentences.append(f"The weights of step {watch.best_step} are the best ({watch.best:.4g}); they are in {BEST}/.")
    return tuple(sentences)


def headline(steps: int, seconds: float, figures: dict[str, float], *, early: bool = False) -> str:
    """One sentence with the run's last figures."""
    line = f"{'Stopped early after ' if early else ''}{steps:,} steps in {seconds:,.0f} s"
    held_out = {
        "eval_loss": "held-out loss",
        "eval_rewards/accuracies": "held-out reward accuracy",
        "eval_reward": "held-out reward",
    }
    for name, label in held_out.items():
        if name in figures:
            line += f", {label} {figures[name]:.3f}"
    if not held_out.keys() & figures.keys() and "loss" in figures:
        line += f", last training loss {figures['loss']:.3f}; no rows were held out"
    return line + "."


def versions() -> dict[str, str]:
    """Versions of what the figures depend on."""
    return {"sightline": __version__, **{name: version(name) for name in PACKAGES}}
