"""The recipe of a run and of each of its checkpoints, with what changed on the way as comments above it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from transformers import TrainerControl, TrainerState, TrainingArguments

from sightline.config import Recipe
from sightline.files import RECIPE, write_text
from sightline.recipe import dump_recipe
from sightline.training.checkpoint.files import InCheckpoint
from sightline.training.checkpoint.run_folder import explain_disk_errors

CHANGED = "# "


class RecipeFile(InCheckpoint):
    """Writes the recipe that is in use: into the run's folder when training begins, and into every checkpoint.

    changed: what holds since some step, a line each; they stand above the recipe as comments.
    """

    def __init__(self, recipe: Recipe, changed: Sequence[str] = ()) -> None:
        self.folder = Path(recipe.output_dir)
        self.text = "".join(f"{CHANGED}{line}\n" for line in changed) + dump_recipe(recipe)

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: Any
    ) -> None:
        if state.is_world_process_zero:
            with explain_disk_errors(self.folder):
                write_text(self.folder / RECIPE, self.text)

    def save_into(self, checkpoint: Path) -> None:
        """Write the recipe by which this checkpoint was trained."""
        (checkpoint / RECIPE).write_text(self.text, encoding="utf-8")


def changed_before(checkpoint: Path) -> tuple[str, ...]:
    """What had changed on the way to a checkpoint, as its recipe says."""
    text = (checkpoint / RECIPE).read_text(encoding="utf-8")
    return tuple(line.removeprefix(CHANGED) for line in text.splitlines() if line.startswith(CHANGED))
