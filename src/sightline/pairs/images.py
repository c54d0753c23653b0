"""A bare folder of images as rows: each image with one of some questions, drawn by seed."""

from pathlib import Path
from typing import Any

import numpy as np

from sightline.config import Recipe
from sightline.data.rows import Rows
from sightline.data.sources.files import SUFFIXES
from sightline.data.sources.load import load_rows, rows_of
from sightline.errors import DataError, RecipeError

IMAGES = (".avif", ".bmp", ".gif", ".jpeg", ".jpg", ".jp2", ".png", ".ppm", ".tif", ".tiff", ".webp")
"""How names of images end."""


def prompt_rows(recipe: Recipe) -> Rows:
    """The rows that are to be answered: a folder's images with questions, or what `data` names.

    Raises `RecipeError` for a folder of images without a question, and for questions where the rows have their own.
    """
    prompts = [] if recipe.pairs is None else recipe.pairs.prompts
    images = images_in(Path(recipe.data.source)) if recipe.data.source else []
    if images and not prompts:
        raise RecipeError(
            f"`{recipe.data.source}` is a folder of {len(images):,} images and says nothing of what to ask. Give "
            '`--prompt "Describe this image."`, several times for several questions (`pairs.prompts` in a recipe).'
        )
    if images:
        rows = image_rows(Path(recipe.data.source), images, prompts, recipe.seed)
        found = rows_of(rows, media_dir=Path(recipe.data.source), source=Path(recipe.data.source).name)
        found = found.with_system(recipe.data.system)
        limit = recipe.data.limit
        return found if limit is None else found.select(range(min(limit, len(found))))
    if prompts:
        raise RecipeError(
            "`pairs.prompts` (`--prompt`) asks about a bare folder of images; rows of a data set have prompts of their "
            "own. Leave it out, or name a folder that holds images and nothing else."
        )
    if recipe.data.source == "scenes":
        from sightline.scenes.rows import SAMPLED, for_recipe

        return rows_of(for_recipe(recipe.data, SAMPLED[0]), source="scenes")
    return load_rows(recipe.data)


def images_in(folder: Path) -> list[Path]:
    """The images of a folder and those below it, by name; none where it holds data files, too."""
    if not folder.is_dir():
        return []
    files = [file for file in sorted(folder.rglob("*")) if not _is_hidden(file, folder) and file.is_file()]
    if any(file.suffix.lower() in SUFFIXES for file in files) or (folder / "state.json").is_file():
        return []
    return [file for file in files if file.suffix.lower() in IMAGES]


def image_rows(folder: Path, images: list[Path], prompts: list[str], seed: int) -> list[dict[str, Any]]:
    """A row an image: its path below the folder, and a question. Drawn by `seed`."""
    blank = next((prompt for prompt in prompts if not prompt.strip()), None)
    if blank is not None:
        raise DataError("`pairs.prompts` holds an empty question. Leave it out.")
    draw = np.random.default_rng([seed, len(prompts)])
    chosen = draw.integers(0, len(prompts), len(images))
    return [
        {"image": str(image.relative_to(folder)), "question": prompts[number], "file": str(image.relative_to(folder))}
        for image, number in zip(images, chosen.tolist(), strict=True)
    ]


def _is_hidden(file: Path, folder: Path) -> bool:
    return any(part.startswith((".", "_")) for part in file.relative_to(folder).parts)
