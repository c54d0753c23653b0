"""`sightline train RECIPE.yaml [--flags]`, and with `--rehearse` the same at the size of a minute."""

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from sightline.cli.recipe_flags import recipe_of
from sightline.cli.recipe_help import recipe_help
from sightline.cli.terminal import paint
from sightline.config import Recipe
from sightline.config.combinations import refuse_idle_evaluation
from sightline.config.on_disk import refuse_missing, refuse_unwritable
from sightline.config.packages import refuse_absent
from sightline.errors import UserError
from sightline.recipe import left_out

REHEARSE = "--rehearse"
OWN_FLAGS = """
  --rehearse [FOLDER]
      Instead of the run: three steps of it on a tiny model of the same family
      with rows of the same format, from reading to a loaded answer, in about a
      minute. Kept in FOLDER where one is named.
  --json
      Print the run's last figures as JSON on standard output, all else on
      standard error."""


def run(argv: list[str]) -> int:
    """Read the recipe, train, report. Exit code 0; a finished run that is resumed says so and is 0 too."""
    asked = next((place for place, word in enumerate(argv) if word in ("--help", "-h")), None)
    if asked is not None:
        topic = next((word for word in argv[asked + 1 :] if not word.endswith((".yaml", ".yml"))), None)
        page = recipe_help(topic)
        print(paint(page if topic else page + "\n" + OWN_FLAGS))
        return 0
    given = argv
    rehearsing, kept, argv = take_rehearse(argv)
    as_json, argv = "--json" in argv, [word for word in argv if word != "--json"]
    path = argv[0] if argv and not argv[0].startswith("-") else None
    recipe = recipe_of(path, argv[1:] if path else argv)
    if not rehearsing:
        refuse_missing(recipe)
        refuse_absent(recipe)
        refuse_idle_evaluation(recipe.eval_steps, recipe.eval_on_start, recipe.data.holds_out)
        if recipe.data.source == "scenes":
            _refuse_scenes(recipe)
        refuse_unwritable(recipe)
        _refuse_occupied(recipe)

    from sightline.cli.terminal import quiet

    quiet()
    from rich.console import Console

    from sightline.training.distributed.launcher import launch, num_to_launch

    num_processes = 1 if rehearsing or recipe.rounds is not None else num_to_launch(recipe)
    if num_processes > 1:
        return launch(given, num_processes)
    from sightline.training.run import main_process_console

    console = main_process_console(Console(stderr=as_json))
    if path is not None and (lost := left_out(path, argv[1:])):
        verb = "does" if len(lost) == 1 else "do"
        console.print(f"`--data` names other rows than {path}: its {', '.join(lost)} {verb} not hold.", highlight=False)
    if rehearsing:
        result = _rehearse(recipe, kept, console)
    elif recipe.rounds is not None:
        from sightline.pairs.rounds import train_rounds

        result = train_rounds(recipe, console=console)
    else:
        from sightline.training.run import train

        result = train(recipe, console=console)
    if as_json:
        folder = None if rehearsing and kept is None else str(result.folder)  # a rehearsal's is gone
        print(json.dumps({"folder": folder, "seconds": result.seconds, "metrics": result.metrics}))
    return 0


def _refuse_scenes(recipe: Recipe) -> None:
    from sightline.scenes.options import scene_options

    scene_options(recipe.data.scenes)


STARTED_BY = ("RANK", "LOCAL_RANK", "OMPI_COMM_WORLD_SIZE", "PMI_SIZE", "MV2_COMM_WORLD_SIZE", "SLURM_PROCID")
"""Set where this is one of several processes: another may have begun to fill the run's folder."""


def _refuse_occupied(recipe: Recipe) -> None:
    from sightline.training.checkpoint.run_folder import refuse_occupied

    if not any(name in os.environ for name in STARTED_BY):
        refuse_occupied(recipe)


def take_rehearse(argv: list[str]) -> tuple[bool, str | None, list[str]]:
    """(whether `--rehearse` is there, the folder that it keeps the run in, the other words)."""
    if REHEARSE not in argv:
        return False, None, argv
    place = argv.index(REHEARSE)
    # a word after it is its folder, unless the recipe comes last: `train --rehearse R.yaml`
    follows = argv[place + 1] if place + 1 < len(argv) and not argv[place + 1].startswith("-") else None
    if follows is not None and Path(follows).suffix in (".yaml", ".yml"):
        return True, None, [follows, *argv[:place], *argv[place + 2 :]]
    return True, follows, [*argv[:place], *argv[place + (2 if follows else 1) :]]


def _rehearse(recipe: Recipe, kept: str | None, console: Any) -> Any:
    from sightline.rehearsal.rehearse import rehearse

    if kept is None:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            return rehearse(recipe, Path(folder), console=console, kept=False)
    folder = Path(kept)
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"`--rehearse {kept}`: there is something in it already. Name a new folder, or none.")
    folder.mkdir(parents=True, exist_ok=True)
    return rehearse(recipe, folder, console=console)
