"""Arguments of the smaller commands: argparse, with complaints in our own form and the nearest valid name."""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

from sightline.cli.terminal import paint
from sightline.config.numbers import said
from sightline.config.paths import looks_like_path, name_of_file, name_to_write, state_of
from sightline.config.plain_yaml import parse_scalar, parse_yaml
from sightline.errors import RecipeError, did_you_mean, shown


class Arguments(argparse.ArgumentParser):
    """An argument parser that raises `RecipeError` instead of printing its usage, and knows no abbreviations."""

    def __init__(self, command: str, description: str, usage: str | None = None) -> None:
        super().__init__(
            prog=f"sightline {command}",
            description=description,
            usage=usage,
            allow_abbrev=False,
            formatter_class=lambda prog: argparse.HelpFormatter(prog, width=80, max_help_position=26),
        )
        self.color = False  # Python 3.14 has colours of its own

    def print_help(self, file: Any = None) -> None:
        """In colour where it is read in a terminal."""
        print(paint(self.format_help()), end="", file=file)

    def parse(self, argv: list[str]) -> argparse.Namespace:
        """Parse, refusing unknown flags with the nearest known one."""
        found, unknown = self.parse_known_args(argv)
        if unknown:
            self.error(f"unrecognized argument {unknown[0]}")
        return found

    def refuse(self, given: argparse.Namespace, names: Sequence[str], why: str) -> None:
        """Raises `RecipeError` where one of these was given: an argument that would be without effect."""
        actions = {action.dest: action for action in self._actions}
        idle = [
            (action.option_strings or [str(action.metavar)])[0]
            for action in (actions[name] for name in names)
            if getattr(given, action.dest) != action.default
        ]
        if idle:
            raise RecipeError(f"{self.prog}: {why}, so {', '.join(idle)} would do nothing. Leave it out.")

    def error(self, message: str) -> NoReturn:
        """What argparse complains of, as our own error."""
        known = [flag for action in self._actions for flag in action.option_strings]
        words = [word for word in message.replace(":", " ").split() if word.startswith("--") and word not in known]
        wrong = words[0].partition("=")[0] if words else ""
        hint = did_you_mean(wrong, known, f"`{self.prog} --help` shows what there is.", written="{}")
        raise RecipeError(f"{self.prog}: {message}. {hint}")


def add_model_flags(arguments: Arguments, longest: str = "the task's own") -> None:
    """Flags of every command that asks a model. longest: what `--max-new-tokens` is where it is left out."""
    arguments.add_argument("--dtype", default="auto", choices=["auto", "float32", "bfloat16", "float16"],
                           help="precision of the weights [auto]")  # fmt: skip
    arguments.add_argument("--device", default="auto", help="cpu, cuda, cuda:1 … [a GPU if there is one]")
    arguments.add_argument("--max-new-tokens", type=positive, help=f"longest answer in tokens [{longest}]")
    arguments.add_argument("--processor", type=options, metavar="{KEY: VALUE}",
                           help="options of the processor, for all models [each one's own]")  # fmt: skip
    arguments.add_argument("--system", metavar="TEXT", help="system turn, '' for none [as the model was trained]")
    arguments.add_argument("--allow-tokens", metavar="TOKEN", action="append",
                           help="special token that a question may hold, again for more [as trained]")  # fmt: skip
    add_trust_flag(arguments)


def add_trust_flag(arguments: Arguments) -> None:
    """The flag of every command that loads a model without a recipe of the user's own."""
    arguments.add_argument(
        "--trust-remote-code", action="store_true", help="run Python code that comes with a model [never]"
    )


LOADING = ("dtype", "device", "processor", "trust_remote_code", "system", "allow_tokens")
"""What of `add_model_flags` says how a model is loaded and asked."""


def loading(given: argparse.Namespace) -> dict[str, Any]:
    """The same for `evaluation.models.Models`."""
    return {"options" if name == "processor" else name: getattr(given, name) for name in LOADING}


def options(text: str) -> dict[str, Any]:
    """Options as YAML writes them in one line."""
    try:
        found = parse_yaml(text)
    except RecipeError:
        found = None
    if not isinstance(found, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is not of the form '{{do_image_splitting: false}}'")
    return found


def whole(lowest: int, highest: int) -> Callable[[str], int]:
    """A reader of whole numbers in a range."""

    def read(text: str) -> int:
        number = int(text) if text.removeprefix("-").isdecimal() and len(text) < 20 else None
        if number is None or not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{shown(text)} is no whole number, {said(lowest)} to {said(highest)}")
        return number

    return read


def real(lowest: int | float, highest: int | float) -> Callable[[str], float]:
    """A reader of finite numbers in a range."""

    def read(text: str) -> float:
        number = parse_scalar(text)
        if not isinstance(number, int | float) or isinstance(number, bool) or not lowest <= number <= highest:
            raise argparse.ArgumentTypeError(f"{shown(text)} is no number, {said(lowest)} to {said(highest)}")
        return float(number)

    return read


def model_name(text: str) -> str:
    """A folder that is there, or what may be a hub id."""
    name = _named(name_of_file, text)
    if looks_like_path(name) and state_of(name) != "a folder":
        wrong = state_of(name).replace("nothing", "no folder that is there")
        raise argparse.ArgumentTypeError(f"{shown(name)} is {wrong}: give a model's folder or a hub id")
    return name


def new_name(text: str) -> Path:
    """A file or folder that is going to be written."""
    return Path(_named(name_to_write, text))


def file_name(text: str) -> str:
    """A file or folder that is read, if only its name can be one."""
    return _named(name_of_file, text)


def _named(read: Callable[[str], str], text: str) -> str:
    try:
        return read(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


positive = whole(1, 10**9)
"""A number of things."""
seed = whole(0, 2**32 - 1)
"""A seed of random numbers."""
