"""The recipes of the embedded benchmark, shipped with the package. `recipes/` of the repository links to them."""

from pathlib import Path

FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """The file of a recipe by its name, such as `scenes_dpo`."""
    return FOLDER / f"{name}.yaml"
