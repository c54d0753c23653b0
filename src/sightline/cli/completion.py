"""`sightline completion SHELL`: a script that completes commands, flags, choices and file names.

shtab writes it from the commands' own argument parsers and the recipe's fields, so that there is no list to keep.
"""

import argparse
import contextlib
import importlib
import io
import re
from collections.abc import Sequence
from typing import Any
from unittest.mock import patch

import shtab

from sightline.cli.arguments import Arguments
from sightline.cli.main import COMMANDS
from sightline.cli.train import OWN_FLAGS
from sightline.config.complaint import all_names
from sightline.recipes import name_of, shipped

SUBCOMMANDS = ("data", "recipe")
WITH_RECIPE = ("train", "plan", "rollout-server")


def run(argv: list[str]) -> int:
    """Print the script."""
    shell = _arguments().parse(argv).shell
    print(shtab.complete(everything(), shell))
    return 0


def _arguments() -> Arguments:
    arguments = Arguments("completion", "Print a completion script for a shell.")
    arguments.add_argument("shell", choices=shtab.SUPPORTED_SHELLS)
    return arguments


def everything() -> argparse.ArgumentParser:
    """One parser of all commands."""
    whole = argparse.ArgumentParser("sightline")
    commands = whole.add_subparsers()
    for name, purpose in COMMANDS.items():
        if name not in SUBCOMMANDS:
            commands.add_parser(name, help=purpose, parents=[parser_of([name])], add_help=False)
            continue
        inner = commands.add_parser(name, help=purpose).add_subparsers()
        for word, what in importlib.import_module(f"sightline.cli.{name}").COMMANDS.items():
            inner.add_parser(word, help=what, parents=[parser_of([name, word])], add_help=False)
    return whole


def parser_of(command: Sequence[str]) -> argparse.ArgumentParser:
    """A command's own parser, as it is when it prints its help page, and the recipe's fields where they are flags."""
    found: list[Arguments] = []
    module = importlib.import_module(f"sightline.cli.{command[0].replace('-', '_')}")
    with (
        patch.object(Arguments, "print_help", lambda self, file=None: found.append(self)),
        contextlib.redirect_stdout(io.StringIO()),
        contextlib.suppress(SystemExit),
    ):
        module.run([*command[1:], "--help"])
    parser = found[0] if found else _parser_of_train()
    if command[0] in WITH_RECIPE:
        for flag in (f"--{name.replace('_', '-')}" for name in all_names()):
            if flag not in parser._option_string_actions:
                parser.add_argument(flag)
    for action in parser._actions:
        _complete(action, [name_of(path) for path in shipped()] if command[-1] in ("show", "copy") else [])
    return parser


def _parser_of_train() -> argparse.ArgumentParser:
    """`train` reads its words itself: what it takes beside a recipe's fields."""
    parser = argparse.ArgumentParser()
    parser.add_argument("recipe", nargs="?")
    for flag in re.findall(r"^ +(--[a-z-]+)", OWN_FLAGS, re.MULTILINE):
        parser.add_argument(flag, nargs="?")
    return parser


def _complete(action: Any, recipes: Sequence[str]) -> None:
    if recipes and action.metavar == "NAME":
        action.choices = recipes
    elif action.choices is None and action.nargs != 0:
        action.complete = shtab.FILE
