"""Iterative preference optimization: `rounds` of pairs from the present model's own completions and a run on them.

RLAIF-V (arXiv:2405.17220, §3.3) and iterative DPO: a fixed set of pairs soon is not what the model would say any more.
Each round has a folder of its own, `OUTPUT/round-1` with `pairs` and `run` in it, and begins with the model that the
last one ended with; its reference is that model, too (`reference: adapter-off` compares with the base in every round).
What is done stays done: a stopped command goes on in the phase that it was in.
"""

import json
import os
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from rich.console import Console

from sightline.config import DPOConfig, EvaluationConfig, Recipe, ReferenceConfig
from sightline.config.pairs import JudgedPairsConfig
from sightline.errors import RecipeError
from sightline.files import RECIPE, page, write_text
from sightline.pairs.make import PairsResult, make_pairs
from sightline.recipe import dump_recipe, of_other_rows
from sightline.training.checkpoint.run_folder import explain_disk_errors, refuse_occupied
from sightline.training.run import RunResult, main_process_console, train

ROUNDS = "rounds.json"
LEFT_IN_ROUND = ("checkpoint-", "scores", "completions", "best")
"""What of the last round's run is not copied into the output folder, by how it begins."""


class Round(NamedTuple):
    """What a round made. number: from 1."""

    number: int
    pairs: PairsResult
    run: RunResult


def train_rounds(recipe: Recipe, *, console: Console | None = None) -> RunResult:
    """Train by a recipe with `rounds`; the output folder ends as that of the last round's run, with a table of all.

    Raises `UserError` and its kinds, `RunFailed`.
    """
    console = main_process_console(console or Console())
    if recipe.rounds is None:
        raise RecipeError("The recipe has no `rounds`. Give their number, or call `train`.")
    if max(recipe.nproc_per_node or 1, int(os.environ.get("WORLD_SIZE", "1"))) > 1:
        raise RecipeError(
            "`rounds` run in one process: pairs are sampled by one model. Leave `nproc_per_node` out, or make pairs "
            "with `sightline pairs` and train on them with several processes."
        )
    folder = Path(recipe.output_dir)
    if not _goes_on(recipe, folder):
        refuse_occupied(recipe)
        if recipe.overwrite_output_dir and folder.is_dir():
            shutil.rmtree(folder)
    with explain_disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not (folder / RECIPE).is_file():
            write_text(folder / RECIPE, dump_recipe(recipe))
    done: list[Round] = []
    for number in range(1, recipe.rounds + 1):
        console.print(f"[bold]Round {number} of {recipe.rounds}[/bold]", highlight=False)
        done.append(_round(recipe, folder, number, done[-1].run.folder if done else None, console))
    return _finish(recipe, folder, done, console)


def _goes_on(recipe: Recipe, folder: Path) -> bool:
    """Whether there are rounds to go on with."""
    return bool(recipe.resume) and any(folder.glob("round-*"))


def _round(recipe: Recipe, folder: Path, number: int, before: Path | None, console: Console) -> Round:
    """Pairs by the model that the last round ended with (`before`), and a run on them from there."""
    place = folder / f"round-{number}"
    reference = replace(recipe.reference, type=_reference(recipe))
    changed = {"rounds": None, "resume": False, "overwrite_output_dir": False, "reference": reference}
    seed = (recipe.seed + number - 1) % 2**32
    making = replace(
        _from(recipe, before),
        **{**changed, "reference": ReferenceConfig()},  # pyright: ignore[reportCallIssue]
        # making pairs reads neither, and what they watch is of the run
        objective=DPOConfig(),  # pyright: ignore[reportCallIssue]
        evaluation=EvaluationConfig(),  # pyright: ignore[reportCallIssue]
        output_dir=str(place / "pairs"),
        seed=seed,
        pairs=recipe.pairs or JudgedPairsConfig(),  # pyright: ignore[reportCallIssue]
    )
    pairs = make_pairs(making, console=console, description=f"Completions of round {number}")
    counts = pairs.summary.counts
    console.print(f"   {counts.pairs:,} pairs of {counts.prompts:,} prompts in {pairs.folder}", highlight=False)
    run_folder = place / "run"
    goes_on = run_folder.is_dir() and any(run_folder.iterdir())
    training = replace(
        _from(recipe, before),
        **{**changed, "resume": goes_on},
        data=of_other_rows(replace(recipe.data, val_size=0.0), str(pairs.folder)),
        sampler=None,
        rewards=[],
        pairs=None,
        output_dir=str(run_folder),
        seed=seed,
    )
    run = train(training, console=console, description=f"Round {number}", says_where=False)
    return Round(number, pairs, run)


def _from(recipe: Recipe, before: Path | None) -> Recipe:
    """The recipe beginning with what a run ended with: its adapter, or its model."""
    if before is None:
        return recipe
    if recipe.lora is None:
        return replace(recipe, model=replace(recipe.model, name=str(before), revision=None, random_weights=False))
    return replace(recipe, lora=replace(recipe.lora, adapter=str(before), init="default"))


def _reference(recipe: Recipe) -> Any:
    """What a round's run calls the recipe's reference: the model that it began with is what auto takes."""
    return "auto" if recipe.reference.type == "last-round" else recipe.reference.type


def _finish(recipe: Recipe, folder: Path, done: list[Round], console: Console) -> RunResult:
    """The last round's run in the output folder, and the table of all rounds."""
    last = done[-1].run
    with explain_disk_errors(folder):
        for file in sorted(last.folder.iterdir()):
            if file.name != RECIPE and not file.name.startswith(LEFT_IN_ROUND):
                if file.is_dir():
                    shutil.copytree(file, folder / file.name, dirs_exist_ok=True)
                else:
                    shutil.copy2(file, folder / file.name)
        rows = [row_of(one) for one in done]
        write_text(folder / ROUNDS, json.dumps(rows, indent=2) + "\n")
        write_text(folder / "report.html", page("sightline.pairs", "rounds.html.j2", rows=rows, title=folder.name))
    console.print(f"Saved to {folder}; report.html has the rounds", highlight=False)
    return replace(last, folder=folder)


def row_of(one: Round) -> dict[str, Any]:
    """A round's line of the table: what its pairs were like, and how its run ended."""
    summary, metrics = one.pairs.summary, one.run.metrics
    shown = {name: value for name, value in metrics.items() if name.startswith(("scores/", "eval_"))}
    return {
        "round": one.number,
        "pairs": summary.counts.pairs,
        "prompts": summary.counts.prompts,
        "score": summary.score,
        "margin": None if summary.margins is None else summary.margins[1],
        "chosen_longer": summary.longer_chosen,
        "left_out_for_length": summary.counts.left_out_for_length,
        "loss": metrics.get("loss"),
        "accuracy": metrics.get("rewards/accuracies"),
        "seconds": one.pairs.seconds + one.run.seconds,
        "figures": shown,
    }
