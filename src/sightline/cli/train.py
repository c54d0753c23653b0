"""`sightline train RECIPE.yaml [--flags]`, and with `--rehearse` the same at the size of a minute."""

import tempfile
from pathlib import Path

from sightline.cli.recipe_help import recipe_help
from sightline.config import Recipe
from sightline.errors import UserError
from sightline.recipe import load_recipe

REHEARSE = "--rehearse"


def run(argv: list[str]) -> int:
    """Read the recipe, train, report. Exit code 0; a finished run that is resumed says so and is 0 too."""
    if "--help" in argv or "-h" in argv:
        print(recipe_help())
        return 0
    rehearsing, kept, argv = take_rehearse(argv)
    path = argv[0] if argv and not argv[0].startswith("-") else None
    recipe = load_recipe(path, argv[1:] if path else argv)

    from sightline.cli.quiet import quiet

    quiet()
    if rehearsing:
        return _rehearse(recipe, kept)
    from sightline.training.run import train

    train(recipe)
    return 0


def take_rehearse(argv: list[str]) -> tuple[bool, str | None, list[str]]:
    """(whether `--rehearse` is there, the folder that it keeps the run in, the other words)."""
    if REHEARSE not in argv:
        return False, None, argv
    place = argv.index(REHEARSE)
    # a word behind it is its folder, unless the recipe comes last: `train --rehearse R.yaml`
    follows = argv[place + 1] if place + 1 < len(argv) and not argv[place + 1].startswith("-") else None
    if follows is not None and Path(follows).suffix in (".yaml", ".yml"):
        return True, None, [follows, *argv[:place], *argv[place + 2 :]]
    return True, follows, [*argv[:place], *argv[place + (2 if follows else 1) :]]


def _rehearse(recipe: Recipe, kept: str | None) -> int:
    from sightline.rehearsal.rehearse import rehearse

    if kept is None:
        with tempfile.TemporaryDirectory(prefix="sightline-") as folder:
            rehearse(recipe, Path(folder))
        return 0
    folder = Path(kept)
    if folder.exists() and (folder.is_file() or any(folder.iterdir())):
        raise UserError(f"`--rehearse {kept}`: there is something in it already. Name a new folder, or none.")
    folder.mkdir(parents=True, exist_ok=True)
    rehearse(recipe, folder)
    return 0
