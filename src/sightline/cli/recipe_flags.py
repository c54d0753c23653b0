"""A recipe from a file and flags, where other projects' flags are told what they are here."""

from dataclasses import fields

from sightline.config import Recipe
from sightline.errors import RecipeError
from sightline.recipe import load_recipe, parse_flags


def recipe_of(path: str | None, flags: list[str]) -> Recipe:
    """The recipe. Raises `RecipeError`; where flags of TRL's or LLaMA-Factory's were given, with their names here."""
    try:
        return load_recipe(path, flags)
    except RecipeError:
        own = {field.name for field in fields(Recipe)}
        foreign = {name: value for name, value in parse_flags(flags).items() if name not in own}
        told = {} if not foreign else _told(foreign)
        if not told:
            raise
        said = "; ".join(f"`--{name}`: {what}" for name, what in told.items())
        raise RecipeError(
            f"{said}. `sightline recipe from-trl '…'` takes a whole line of TRL's, and `from-llamafactory` a YAML file "
            "of LLaMA-Factory's."
        ) from None


def _told(foreign: dict) -> dict[str, str]:
    from sightline.translate.flags import here

    return here(foreign)
