"""The recipes that come with Sightline, and configurations of `accelerate launch`: see `sightline recipe list`.

`recipes` at the root of the repository is a link to this folder.
"""

from pathlib import Path

from sightline.errors import RecipeError, did_you_mean

FOLDER = Path(__file__).parent


def path(name: str) -> Path:
    """The file of a recipe by its name, folders left out or not. Raises `RecipeError` with the nearest one."""
    wanted, files = Path(name).name.removesuffix(".yaml"), {file.stem: file for file in shipped()}
    if wanted not in files:
        hint = did_you_mean(wanted, files, "`sightline recipe list` shows what there is.", written="{}")
        raise RecipeError(f"No recipe {name!r} comes with Sightline. {hint}")
    return files[wanted]


def shipped() -> list[Path]:
    """Every recipe, and every configuration of `accelerate launch`."""
    return sorted(FOLDER.rglob("*.yaml"))


def name_of(file: Path) -> str:
    """`scenes_dpo`, `accelerate/fsdp2`."""
    return file.relative_to(FOLDER).with_suffix("").as_posix()


def purpose(file: Path) -> str:
    """The first paragraph of a recipe's heading."""
    heading = file.read_text(encoding="utf-8").partition("\n#\n")[0]
    return " ".join(line.lstrip("# ") for line in heading.splitlines())
