"""`sightline recipe list|show|copy`, `from-trl CONFIG|'COMMAND LINE'` and `from-llamafactory YAML`."""

import argparse
import json
from pathlib import Path
from typing import Any

from sightline import recipes
from sightline.cli.arguments import Arguments, new_name
from sightline.cli.terminal import paint
from sightline.errors import RecipeError, UserError

COMMANDS = {
    "list": "what recipes come with Sightline",
    "show": "print one of them",
    "copy": "copy some of them into a folder, to be changed",
    "from-trl": "translate a YAML file or a command line (in quotes) of TRL",
    "from-llamafactory": "translate a training YAML of LLaMA-Factory",
}


def run(argv: list[str]) -> int:
    """Print the recipe, and on stderr what each key became. Exit code 0; 2 (a `UserError`) for what cannot be read."""
    if not argv or argv[0] in ("-h", "--help"):
        lines = [f"  {name:<18} {purpose}" for name, purpose in COMMANDS.items()]
        print(paint("\n".join(["usage: sightline recipe COMMAND [arguments]", "", *lines])))
        return 0
    if argv[0] not in COMMANDS:
        raise RecipeError(f"There is no `sightline recipe {argv[0]}`. Known: {', '.join(COMMANDS)}.")
    match argv:
        case ["list", *rest]:
            return _list(rest)
        case ["show", *rest]:
            return _show(rest)
        case ["copy", *rest]:
            return _copy(rest)
    given = _arguments(argv[0]).parse(argv[1:])
    translation = _translated(argv[0], given)
    text = translation.as_yaml()
    if given.output is not None:
        if given.output.exists():
            raise UserError(f"`--output {given.output}`: that file exists already. Name a new one.")
        given.output.write_text(text, encoding="utf-8")
    if given.json:
        print(json.dumps(translation.as_json(), ensure_ascii=False, indent=2))
        return 0
    if given.output is None:
        print(text, end="")
    _print_notes(translation, given.output)
    return 0


def _list(argv: list[str]) -> int:
    arguments = Arguments("recipe list", COMMANDS["list"].capitalize() + ".")
    arguments.add_argument("--json", action="store_true", help="names and purposes as JSON and nothing else")
    purposes = {recipes.name_of(path): recipes.purpose(path) for path in recipes.shipped()}
    if arguments.parse(argv).json:
        print(json.dumps(purposes, ensure_ascii=False))
        return 0
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, show_header=False)
    table.add_column(no_wrap=True)
    for name, purpose in purposes.items():
        table.add_row(name, purpose)
    Console(highlight=False).print(table)
    return 0


def _show(argv: list[str]) -> int:
    arguments = Arguments("recipe show", COMMANDS["show"].capitalize() + ".")
    arguments.add_argument("name", metavar="NAME", help="as `sightline recipe list` prints it")
    print(recipes.path(arguments.parse(argv).name).read_text(encoding="utf-8"), end="")
    return 0


def _copy(argv: list[str]) -> int:
    arguments = Arguments("recipe copy", COMMANDS["copy"].capitalize() + ".")
    arguments.add_argument("names", metavar="NAME", nargs="+", help="as `sightline recipe list` prints them")
    arguments.add_argument("--output", type=new_name, default=Path("recipes"), help="folder [recipes]")
    given = arguments.parse(argv)
    paths = [recipes.path(name) for name in given.names]
    copies = {given.output / f"{recipes.name_of(path)}.yaml": path for path in paths}
    occupied = [copy for copy in copies if copy.exists()]
    if occupied:
        raise UserError(f"{occupied[0]} exists already. Name another folder with --output, or remove it.")
    for copy, path in copies.items():
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(path.read_text(encoding="utf-8"), encoding="utf-8")
        print(f"{copy}")
    return 0


def _arguments(command: str) -> Arguments:
    arguments = Arguments(f"recipe {command}", COMMANDS[command].capitalize() + ". What has no place here is listed.")
    config = "YAML file, or a command line in quotes" if command == "from-trl" else "YAML file"
    arguments.add_argument("config", metavar="CONFIG", help=config)
    if command == "from-trl":
        arguments.add_argument("--method", help="sft, dpo, kto, grpo or rloo [found from the config]")
    arguments.add_argument("--output", type=new_name, metavar="NEW.yaml", help="write the recipe here [stdout]")
    arguments.add_argument("--json", action="store_true", help="print recipe and notes as JSON and nothing else")
    return arguments


def _translated(command: str, given: argparse.Namespace) -> Any:
    if command == "from-trl":
        from sightline.translate.trl import from_trl

        return from_trl(given.config, given.method)
    from sightline.translate.llamafactory import from_llamafactory

    return from_llamafactory(given.config)


def _print_notes(translation: Any, output: Path | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(stderr=True, highlight=False)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("old", overflow="fold")
    table.add_column("new", overflow="fold")
    for old, new in translation.became:
        table.add_row(old, new)
    for old, why in translation.redundant:
        table.add_row(old, f"not needed: {why}", style="dim")
    for old, why in translation.missing:
        table.add_row(old, f"not carried over: {why}", style="yellow")
    console.print(table)
    said = f"Wrote {output}. " if output is not None else ""
    count = len(translation.missing)
    lost = f"{count} of them could not be carried over" if count else "all of them have a place"
    recipe = output or "NEW.yaml"
    console.print(f"{said}{len(translation.given)} keys: {lost}. Try it: `sightline train {recipe} --rehearse`")
