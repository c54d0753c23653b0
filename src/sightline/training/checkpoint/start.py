"""Where a run starts: at step 0, at a checkpoint, or nowhere, because it has ended."""

import json
import math
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from accelerate import PartialState

from sightline.config import Recipe
from sightline.config.evaluation import EvaluationConfig
from sightline.errors import UserError
from sightline.files import METRICS, RECIPE, RUN_CARD
from sightline.recipe import load_recipe
from sightline.training.checkpoint.changes import Changes, judged
from sightline.training.checkpoint.files import explain_unreadable, last_checkpoint, named_checkpoint, step_of
from sightline.training.checkpoint.recipe_file import RecipeFile, changed_before
from sightline.training.step.metrics import MetricsFile

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Start:
    """Where a run starts. checkpoint: None for step 0. step: how many are done. changes: what holds from here on.

    changed: what had changed before and what does now, a line each.
    """

    checkpoint: Path | None = None
    step: int = 0
    changes: Changes = field(default_factory=Changes)
    changed: tuple[str, ...] = ()

    def recipe_file(self, recipe: Recipe) -> RecipeFile:
        """What writes the recipe, with what changed on the way."""
        return RecipeFile(recipe, self.changed)

    def metrics_file(self, folder: Path, first: dict[str, str], say: Say) -> MetricsFile:
        """The file of the run's metrics: those up to the checkpoint, or the first line and nothing else.

        say: shows the user a sentence, about lines that are missing.
        """
        if not PartialState().is_main_process:
            return MetricsFile(folder / METRICS)
        metrics_file = MetricsFile(folder / METRICS, self.checkpoint, say)
        if self.checkpoint is None:
            metrics_file.path.unlink(missing_ok=True)  # of an attempt that ended before its first checkpoint
            metrics_file.write(first)
        elif self.changes.lines:
            metrics_file.write({"step": self.step, "event": "settings changed", "settings": self.changes.lines})
        return metrics_file


def find_start(recipe: Recipe, say: Say) -> Start:
    """Where this run starts. say: shows the user a sentence.

    Raises `UserError` when none of several checkpoints is whole, or a run that has ended left none; `RecipeError` for
    settings that cannot change in the middle of a run.
    """
    if not recipe.resume:
        return Start()
    if isinstance(recipe.resume, str):
        found, damaged = named_checkpoint(Path(recipe.resume)), []
    else:
        found, damaged = last_checkpoint(Path(recipe.output_dir))
    if found is None and read_card(Path(recipe.output_dir)) is not None:
        raise UserError(
            f"The run in {recipe.output_dir} ended without a checkpoint (`save_steps` was not given), so it cannot go "
            "on. Start a new run from its weights (`lora.adapter`, or `model.name`), or over with "
            "--overwrite-output-dir in place of --resume."
        )
    for sentence in damaged:
        say(sentence)
    if found is None:
        say("No checkpoint yet: starting at step 0")
        return Start()
    step = step_of(found)
    with explain_unreadable(found):
        changes = judged(recipe, load_recipe(found / RECIPE), found, step)
        changed = (*changed_before(found), *changes.lines)
    say(f"Resuming from {found}")
    for line in changes.lines:
        say(line)
    return Start(checkpoint=found, step=step, changes=changes, changed=changed)


def read_card(folder: Path) -> dict[str, Any] | None:
    """The card of a run that has ended; None where it did not end. Raises `UserError` for one that is no card."""
    path = folder / RUN_CARD
    if not path.is_file():
        return None
    try:
        card = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(card, dict) and "steps" not in card:
            return None  # the card of best weights, or of an export, is none of a run
        if type(card["steps"]) is int and {"metrics", "seconds"} <= card.keys():
            return card
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError):
        pass
    raise UserError(
        f"{path}, which says how the run ended, cannot be read. Put it back, or delete it to go on from the last "
        "checkpoint."
    )


def stop_rules(config: EvaluationConfig) -> dict[str, Any]:
    """The settings that an early stop follows from."""
    return {"best": config.best, "patience": config.patience, "limits": config.limits}


def nothing_left(card: dict[str, Any], recipe: Recipe) -> str | None:
    """Why a run that has ended is not to go on, as a sentence; None where it is: for more steps, or by other rules than
    those that stopped it early."""
    folder = recipe.output_dir
    if card.get("stopped") is not None:
        if card["stop_rules"] != stop_rules(recipe.evaluation):
            return None
        return (
            f"{folder} stopped early at step {card['steps']}: {card['stopped']}. Nothing is left to do; to go on all "
            "the same, change `evaluation.limits` or `evaluation.patience`."
        )
    steps = recipe.max_steps
    if steps < 0 and (per_pass := card.get("steps_per_epoch")) is not None:
        steps = math.ceil(recipe.num_train_epochs * per_pass)
    if steps > card["steps"]:
        return None
    return (
        f"{folder} is a finished run of {card['steps']} steps; nothing is left to do. For more, give `max_steps` or "
        "`num_train_epochs`."
    )
