"""What a recipe needs besides the packages that always come with Sightline; asked before anything heavy is imported."""

from importlib.util import find_spec

from sightline.config import Recipe
from sightline.config.schedule import OPTIMIZERS
from sightline.errors import RecipeError

INSTALL = {
    "bitsandbytes": "'sightline[quant]'",
    "optimi": "torch-optimi",
}
"""Module → what pip calls it, where that is another name."""


def refuse_absent(recipe: Recipe) -> None:
    """Raises `RecipeError` for an optimizer or a tracker whose package is not installed."""
    module = OPTIMIZERS[recipe.optim]
    if module is not None and find_spec(module) is None:
        raise RecipeError(f"`optim: {recipe.optim}` {_absent(module)}, or use `adamw_torch`.")
    for tracker in recipe.report_to:
        if tracker != "none" and find_spec(tracker) is None:
            raise RecipeError(
                f"`report_to: [{tracker}]` {_absent(tracker)}, or leave it out: metrics.jsonl has it all."
            )


def _absent(module: str) -> str:
    return f"needs {module}, which is not installed. Install it with `pip install {INSTALL.get(module, module)}`"
