"""`sightline train --help`: every field of a recipe, grouped, with its meaning and default, in 80 columns."""

import textwrap
import typing
from dataclasses import MISSING, fields
from typing import Any

from sightline.config import Recipe
from sightline.recipe import dataclasses_in

WIDTH = 80
INDENT = 6

USAGE = """usage: sightline train RECIPE.yaml [--name value ...]
       sightline train --model MODEL --data DATA --objective.type dpo [...]

Every field of a recipe is a flag, `--group.name value`; a flag wins over the
file. `--model X` stands for `--model.name X`, `--data X` for `--data.source X`,
a bare `--lora` for LoRA with its defaults, a bare `--name` for `--name true`.
"""


def recipe_help() -> str:
    """The help page."""
    blocks = [USAGE, "TRAINING"]
    groups = []
    for field in fields(Recipe):
        options = dataclasses_in(field.type)
        if options:
            groups.append((field.name, options))
        else:
            blocks.append(_entry(field.name, field, _description(Recipe, field.name)))
    for name, options in groups:
        for option in options:
            tag = next((f.default for f in fields(option) if f.name == "type"), None)
            heading = f"{name.upper()} ({name}.type: {tag})" if len(options) > 1 else name.upper()
            summary = textwrap.indent(textwrap.fill(" ".join((option.__doc__ or "").split()), WIDTH - 2), "  ")
            blocks += ["", heading, summary]
            for field in fields(option):
                if not (len(options) > 1 and field.name == "type"):
                    blocks.append(_entry(f"{name}.{field.name}", field, _description(option, field.name)))
    return "\n".join(blocks)


def _entry(name: str, field: Any, description: str) -> str:
    flag = f"  --{name.replace('_', '-')} {_kind(field.type)}".rstrip()
    if len(flag) > WIDTH:
        flag = f"  --{name.replace('_', '-')} WORD"
        description = f"{description} One of {_kind(field.type).replace('|', ', ')}."
    default = _default(field)
    text = f"{description} [{default}]" if default else description
    indent = " " * INDENT
    return f"{flag}\n{textwrap.fill(text, WIDTH, initial_indent=indent, subsequent_indent=indent)}"


def _description(owner: Any, name: str) -> str:
    """A field's docstring; pydantic leaves an inherited one with the class that wrote it."""
    classes = [kind for kind in owner.__mro__ if name in getattr(kind, "__pydantic_fields__", {})]
    found = (kind.__pydantic_fields__[name].description for kind in classes)
    return next((description for description in found if description), "")


def _default(field: Any) -> str:
    if field.default is MISSING:
        return ""
    default = getattr(field.default, "default", field.default)  # pydantic's Field(…) holds the value
    if default is None or default == "" or "Undefined" in str(default):
        return ""
    return str(default)


def _kind(kind: Any) -> str:
    if kind is bool:
        return "true|false"
    if typing.get_origin(kind) is typing.Literal:
        return "|".join(map(str, typing.get_args(kind)))
    names = {int: "N", float: "X", str: "TEXT"}
    if kind in names:
        return names[kind]
    found = [_kind(argument) for argument in typing.get_args(kind) if argument is not type(None)]
    if typing.get_origin(kind) is list:
        return f"{found[0] or '{KEY: VALUE}'} ..."
    if typing.get_origin(kind) is dict or str(kind).startswith("typing.Annotated"):
        return "{KEY: VALUE}"
    return "|".join(word for word in found if word)
