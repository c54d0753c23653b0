"""`sightline recipe list`, `show NAME` and `copy NAME…`: what comes with the package, accelerate configs too."""

import json
from pathlib import Path

from sightline.cli.arguments import Arguments
from sightline.errors import RecipeError, UserError, did_you_mean

SHIPPED = Path(__file__).parents[1] / "recipes"

PURPOSES = {
    "list": "what recipes come with Sightline",
    "show": "print one of them",
    "copy": "copy some of them into a folder, to be changed",
}


def run(argv: list[str]) -> int:
    """Exit code 0; 2 (a `UserError`) for a name that is none and a file that is there already."""
    command, *rest = argv
    arguments = Arguments(f"recipe {command}", PURPOSES[command].capitalize() + ".")
    match command:
        case "list":
            arguments.add_argument("--json", action="store_true", help="names and purposes as JSON and nothing else")
            _list(as_json=arguments.parse(rest).json)
        case "show":
            arguments.add_argument("name", metavar="NAME", help="as `sightline recipe list` prints it")
            print(shipped_recipe(arguments.parse(rest).name).read_text(encoding="utf-8"), end="")
        case "copy":
            arguments.add_argument("names", metavar="NAME", nargs="+", help="as `sightline recipe list` prints them")
            arguments.add_argument("--output", type=Path, default=Path("recipes"), help="folder [recipes]")
            given = arguments.parse(rest)
            _copy([shipped_recipe(name) for name in given.names], given.output)
    return 0


def shipped_recipe(name: str) -> Path:
    """The file of a recipe by its name, folders left out or not. Raises `RecipeError` with the nearest one."""
    wanted, files = Path(name).name.removesuffix(".yaml"), {path.stem: path for path in shipped()}
    if wanted not in files:
        hint = did_you_mean(wanted, files, "`sightline recipe list` shows what there is.", written="{}")
        raise RecipeError(f"No recipe {name!r} comes with Sightline. {hint}")
    return files[wanted]


def shipped() -> list[Path]:
    """Every recipe, and every configuration of `accelerate launch`."""
    return sorted(SHIPPED.rglob("*.yaml"))


def name_of(path: Path) -> str:
    """`scenes_dpo`, `accelerate/fsdp2`."""
    return path.relative_to(SHIPPED).with_suffix("").as_posix()


def _list(*, as_json: bool) -> None:
    purposes = {name_of(path): _purpose(path) for path in shipped()}
    if as_json:
        print(json.dumps(purposes, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    for name, purpose in purposes.items():
        table.add_row(name, purpose)
    Console(highlight=False).print(table)


def _purpose(path: Path) -> str:
    """The first paragraph of a recipe's heading."""
    heading = path.read_text(encoding="utf-8").partition("\n#\n")[0]
    return " ".join(line.lstrip("# ") for line in heading.splitlines())


def _copy(paths: list[Path], folder: Path) -> None:
    copies = {folder / path.relative_to(SHIPPED): path for path in paths}
    occupied = [copy for copy in copies if copy.exists()]
    if occupied:
        raise UserError(f"{occupied[0]} exists already. Name another folder with --output, or remove it.")
    for copy, path in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        print(f"{copy}")
