"""What a recipe names on disk, looked at before anything heavy is imported or loaded."""

from collections.abc import Iterator
from pathlib import Path

from sightline.config import Recipe
from sightline.config.data import DATA_SUFFIXES, DataConfig
from sightline.config.paths import folder_complaint, looks_like_path, state_of
from sightline.errors import DataError, ModelError, RecipeError, UserError, shown

MAYBE_ON_HUB = ("lora.adapter", "reference.adapter", "reference.model")
"""Fields that may name a repository on the hub."""


def refuse_missing(recipe: Recipe) -> None:
    """Raises `UserError` for a model, rows, adapter or folder that the recipe names and that is not there or is
    something else. What may be a hub id is left to who loads it."""
    _refuse_model(recipe)
    refuse_no_rows(recipe.data)
    for field, name, due in _inputs(recipe):
        found = state_of(name)
        if found != due and (found != "nothing" or field not in MAYBE_ON_HUB or looks_like_path(name)):
            wrong = "does not exist" if found == "nothing" else f"is {found}"
            raise UserError(f"`{field}: {shown(name)}` {wrong}, where {due} is due.")


def refuse_unwritable(recipe: Recipe) -> None:
    """Raises `UserError` for a folder that cannot be made: the run's own, and those of what is kept between runs."""
    outputs = {
        "output_dir": recipe.output_dir,
        "data.cache_dir": recipe.data.cache_dir,
        "reference.path": recipe.reference.path,
    }
    for field, name in outputs.items():
        complaint = None if name is None else folder_complaint(name)
        if complaint is not None:
            raise UserError(f"`{field}: {shown(name)}` cannot be a folder: {complaint}. Name another.")


def _refuse_model(recipe: Recipe) -> None:
    name = recipe.model.name
    refuse_no_model(name)
    if recipe.model.revision is not None and (name == "embedded" or Path(name).is_dir()):
        raise ModelError(
            f"`model.revision: {shown(recipe.model.revision)}` names a version on the hub, but the model is "
            f"{'the one inside the package' if name == 'embedded' else 'a folder'}. Leave one of them out."
        )


def refuse_no_model(name: str, field: str = "model.name") -> None:
    """Raises `ModelError` for a name that is neither a folder nor may be a hub id."""
    if not name:
        raise ModelError(f"No model is named. Give `{field}`: a hub id, a folder, or `embedded`.")
    found = state_of(name)
    if found == "a folder" or (found == "nothing" and not looks_like_path(name)):
        return
    wrong = f"there is no folder `{shown(name)}`" if found == "nothing" else f"`{shown(name)}` is {found}"
    raise ModelError(f"{field}: {wrong}. Give the folder that `save_pretrained` wrote, or a hub id.")


def refuse_no_rows(data: DataConfig) -> None:
    """Raises `UserError` for sources that are not there, or of which no end may come."""
    if not data.is_given:
        raise RecipeError(
            "The recipe names no data. Give `data.source` (a file, folder, hub id or `scenes`), `data.registry` with "
            "`names`, or `data.mixture`."
        )
    sources = {"data.source": data.source, "data.eval_source": data.eval_source or ""}
    sources |= {f"data.mixture.{number}.source": one.source for number, one in enumerate(data.mixture)}
    for field, name in sources.items():
        if not name or name == "scenes":
            continue
        found = state_of(name)
        if found == "neither file nor folder":
            raise DataError(f"{field}: `{shown(name)}` is {found}: reading it may never end. Give a file or a folder.")
        if found == "nothing" and looks_like_path(name, DATA_SUFFIXES):
            raise DataError(
                f"{field}: there is no file or folder '{shown(name)}'. Give a path that exists, or a hub id."
            )


def _inputs(recipe: Recipe) -> Iterator[tuple[str, str, str]]:
    """(field, name, what has to be there)."""
    named = {
        "data.registry": (recipe.data.registry, "a file"),
        "data.media_dir": (recipe.data.media_dir, "a folder"),
        "evaluation.data": (recipe.evaluation.data, "a folder"),
        "lora.adapter": (None if recipe.lora is None else recipe.lora.adapter, "a folder"),
        "reference.adapter": (recipe.reference.adapter, "a folder"),
        "reference.model": (None if recipe.reference.model == "embedded" else recipe.reference.model, "a folder"),
        "resume": (recipe.resume if isinstance(recipe.resume, str) else None, "a folder"),
    }
    named |= {f"data.mixture.{n}.media_dir": (one.media_dir, "a folder") for n, one in enumerate(recipe.data.mixture)}
    for field, (name, due) in named.items():
        if name is not None:
            yield field, name, due
