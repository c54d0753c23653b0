"""A run's folder: what is in it, when it may be written to, and writing so that nothing half-done bears a final name.

recipe.yaml          the resolved recipe; `sightline train OUTPUT/recipe.yaml` runs it again. What a resumed run changed
                     stands above it
adapter_model.safetensors, adapter_config.json    or model.safetensors, config.json
processor files      as `save_pretrained` writes them
metrics.jsonl        one line a logged step
curves/*.png, report.html
checkpoint-N/        for resuming: the above plus optimizer, schedule, random states
sightline.json       versions, the base model, figures of the run
"""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from safetensors import SafetensorError

from sightline.config import Recipe
from sightline.errors import UserError
from sightline.files import METRICS, RECIPE, write_text
from sightline.recipe import dump_recipe


def open_run_folder(recipe: Recipe, *, goes_on: bool = False) -> Path:
    """Make the output folder and write the recipe into it.

    goes_on: from a checkpoint; a recipe that is there is then replaced when all is restored (`recipe_file.RecipeFile`).
    Raises `UserError` when the folder holds something and the recipe neither resumes nor overwrites, or when it cannot
    be written.
    """
    folder = Path(recipe.output_dir)
    refuse_occupied(recipe)
    with explain_disk_errors(folder):
        if recipe.overwrite_output_dir and not recipe.resume and folder.is_dir():
            _empty(folder)
        folder.mkdir(parents=True, exist_ok=True)
        if not (goes_on and (folder / RECIPE).is_file()):
            write_text(folder / RECIPE, dump_recipe(recipe))
    return folder


def _empty(folder: Path) -> None:
    """Remove what is in a folder; a link to a folder stays one."""
    for inside in folder.iterdir():
        if inside.is_dir() and not inside.is_symlink():
            shutil.rmtree(inside)
        else:
            inside.unlink()


def refuse_occupied(recipe: Recipe) -> None:
    """Raises `UserError` when the output folder holds something and the recipe neither resumes nor overwrites."""
    folder = Path(recipe.output_dir)
    if folder.is_file():
        raise UserError(f"The output folder {folder} is a file. Choose another folder with --output-dir.")
    occupied = folder.is_dir() and any(folder.iterdir())
    if occupied and recipe.overwrite_output_dir and not recipe.resume:
        if not (folder / RECIPE).is_file():
            raise UserError(
                f"The folder {folder} does not hold a Sightline run (no {RECIPE} in it), so --overwrite-output-dir "
                "does not empty it. Choose another folder with --output-dir."
            )
        return
    if occupied and not recipe.resume:
        raise UserError(
            f"The output folder {folder} already holds {'a run' if (folder / RECIPE).is_file() else 'files'}. Choose "
            "another with --output-dir, go on with that run with --resume, or empty it with --overwrite-output-dir."
        )


@contextmanager
def opened_run_folder(recipe: Recipe, *, goes_on: bool = False) -> Iterator[Path]:
    """The output folder while a run is prepared; one that is refused leaves no new folder.

    goes_on: from a checkpoint. Raises `UserError` as `open_run_folder` does.
    """
    folder = Path(recipe.output_dir)
    was_there = folder.is_dir()
    is_new = not was_there or recipe.overwrite_output_dir or not any(folder.iterdir())
    open_run_folder(recipe, goes_on=goes_on)
    try:
        yield folder
    except BaseException:  # a mistake, a fault or Ctrl-C: none leaves a folder that the next run would refuse
        if is_new and not recipe.resume:
            for name in (RECIPE, METRICS):
                (folder / name).unlink(missing_ok=True)
            if not was_there and not any(folder.iterdir()):
                folder.rmdir()
        raise


def write_folder_into(folder: Path, save: Callable[[Path], None]) -> None:
    """Let `save` fill a folder aside, then move its files into `folder`: a full disk leaves no half-written model."""
    aside = folder / ".part"
    shutil.rmtree(aside, ignore_errors=True)
    with explain_disk_errors(folder):
        try:
            aside.mkdir()
            save(aside)
            for file in sorted(aside.iterdir()):
                os.replace(file, folder / file.name)
        finally:
            shutil.rmtree(aside, ignore_errors=True)


@contextmanager
def explain_disk_errors(folder: Path) -> Iterator[None]:
    """No space, no permission or a read-only disk as one paragraph."""
    try:
        yield
    except SafetensorError as error:
        if f"os error {errno.ENOSPC}" not in str(error) and f"os error {errno.EDQUOT}" not in str(error):
            raise
        raise _full(folder) from None
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise _full(folder) from None
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.ENOTDIR, errno.ENAMETOOLONG):
            raise UserError(
                f"The folder {folder} cannot be written: {error.strerror}. Choose another with --output-dir."
            ) from None
        raise


def _full(folder: Path) -> UserError:
    free = shutil.disk_usage(folder if folder.exists() else Path.cwd()).free / 2**20
    return UserError(
        f"The disk that holds {folder} is full ({free:.0f} MiB free). Nothing half-written was left under a final "
        "name. Free some space, or choose another disk with --output-dir, and run again with --resume."
    )
