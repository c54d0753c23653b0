"""`sightline train RECIPE.yaml [--flags]`."""

from sightline.cli.recipe_help import recipe_help
from sightline.recipe import load_recipe


def run(argv: list[str]) -> int:
    """Read the recipe, train, report. Exit code 0; a finished run that is resumed says so and is 0 too."""
    if "--help" in argv or "-h" in argv:
        print(recipe_help())
        return 0
    path = argv[0] if argv and not argv[0].startswith("-") else None
    recipe = load_recipe(path, argv[1:] if path else argv)

    from sightline.cli.quiet import quiet

    quiet()
    from sightline.training.run import train

    train(recipe)
    return 0
