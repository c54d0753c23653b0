"""TensorBoard's log of a run in OUTPUT/tensorboard: one run, however often it was resumed."""

from pathlib import Path

from accelerate import PartialState
from transformers import TrainerCallback
from transformers.integrations import TensorBoardCallback

from sightline.config import Recipe
from sightline.training.checkpoint.files import step_of

FOLDER = "tensorboard"


def tensorboard(recipe: Recipe, folder: Path, checkpoint: Path | None) -> list[TrainerCallback]:
    """The callback where the recipe asks for it, in the process that writes.

    Steps after the checkpoint that the run goes on from were logged before and will be again: the first are hidden.
    """
    if "tensorboard" not in recipe.report_to or not PartialState().is_main_process:
        return []
    from torch.utils.tensorboard import SummaryWriter

    first = 0 if checkpoint is None else step_of(checkpoint) + 1
    return [TensorBoardCallback(SummaryWriter(log_dir=str(folder / FOLDER), purge_step=first))]
