"""`sightline train --help [TOPIC]`: the fields of a recipe with their meaning and default, in 80 columns.

The page without a topic has every field but those of single objectives, samplers and rewards, which get one line each;
`--help objective.dpo` shows one of them, `--help data` a group, `--help all` everything.
"""

import textwrap
import typing
from dataclasses import MISSING, fields
from typing import Any

from sightline.config import Recipe
from sightline.config.complaint import dataclasses_in
from sightline.config.numbers import kind_of_number, said_range
from sightline.errors import RecipeError, did_you_mean

WIDTH = 80
INDENT = 6
NAMES = 16
"""Columns for the names of types."""

USAGE = """usage: sightline train RECIPE.yaml [--name value ...]
       sightline train --model MODEL --data DATA --objective.type dpo [...]
       sightline train --help [TOPIC]      objective.dpo, data, beta, all …

Every field of a recipe is a flag, `--group.name value`; a flag wins over the
file. `--model X` stands for `--model.name X`, `--data X` for `--data.source X`,
a bare `--lora` for LoRA with its defaults, a bare `--name` for `--name true`.
"""


def recipe_help(topic: str | None = None) -> str:
    """The help page, or what it says of a topic. Raises `RecipeError` for a topic that there is not."""
    if topic is None:
        return "\n".join([USAGE, _training(), *(_group(name, options) for name, options in _groups().items())])
    if topic == "all":
        whole = [_group(n, options) if len(options) == 1 else _types(n, options) for n, options in _groups().items()]
        return "\n".join([USAGE, _training(), *whole])
    topic = topic.lstrip("-").replace("-", "_")
    if topic == "training":
        return _training()
    pages = _pages()
    if topic in pages:
        return pages[topic].strip("\n")
    named = [text for name, text in pages.items() if name.rpartition(".")[2] == topic]
    if named:
        return "\n".join(dict.fromkeys(text.strip("\n") for text in named))
    hint = did_you_mean(
        topic, [*pages, *(name.rpartition(".")[2] for name in pages)], "`sightline train --help` shows what there is."
    )
    raise RecipeError(f"`sightline train --help {topic}`: there is no such field, group or type. {hint}")


def _groups() -> dict[str, list[Any]]:
    found = {field.name: dataclasses_in(field.type) for field in fields(Recipe)}
    return {name: options for name, options in found.items() if options}


def _training() -> str:
    plain = [field for field in fields(Recipe) if not dataclasses_in(field.type)]
    return "\n".join(["TRAINING", *(_entry(f.name, f, _description(Recipe, f.name)) for f in plain)])


def _group(name: str, options: list[Any]) -> str:
    """A group's fields; where it is a choice of types, one line a type."""
    if len(options) == 1:
        (option,) = options
        entries = [_entry(f"{name}.{f.name}", f, _description(option, f.name)) for f in fields(option)]
        return "\n".join(["", name.upper(), _summary(option), *entries])
    heading = f"{name.upper()} (--{name}.type TYPE; --help {name}.TYPE shows the fields of one)"
    return "\n".join(["", heading, *(_line(option) for option in options)])


def _types(name: str, options: list[Any]) -> str:
    return "\n".join(_type(name, option) for option in options)


def _type(name: str, option: Any) -> str:
    tags = _tags(option)
    heading = f"{name.upper()} ({name}.type: {' or '.join(tags)})" if tags else f"{name.upper()}"
    shown = [f for f in fields(option) if f.name != "type"]
    entries = [_entry(f"{name}.{f.name}", f, _description(option, f.name)) for f in shown]
    return "\n".join(["", heading, _summary(option), *entries])


def _pages() -> dict[str, str]:
    """What there is to say of every group, type and field, by dotted name."""
    pages: dict[str, str] = {}
    for field in fields(Recipe):
        if not dataclasses_in(field.type):
            pages[field.name] = _entry(field.name, field, _description(Recipe, field.name))
    for name, options in _groups().items():
        pages[name] = _group(name, options)
        for option in options:
            for tag in _tags(option):
                pages[f"{name}.{tag}"] = _type(name, option)
            for field in fields(option):
                entry = _entry(f"{name}.{field.name}", field, _description(option, field.name))
                known = pages.get(f"{name}.{field.name}", "")
                if entry not in known:
                    pages[f"{name}.{field.name}"] = f"{known}\n{entry}".strip("\n")
    return pages


def _tags(option: Any) -> tuple[str, ...]:
    kind = next((f.type for f in fields(option) if f.name == "type"), None)
    return typing.get_args(kind) if typing.get_origin(kind) is typing.Literal else ()


def _line(option: Any) -> str:
    """`  dpo, sigmoid    Direct preference optimisation (arXiv:2305.18290, eq. 7) …`"""
    name = ", ".join(_tags(option)) or option.__name__
    text = " ".join((option.__doc__ or "").split())
    room = WIDTH - NAMES - 2
    said = text if len(text) <= room else textwrap.shorten(text, room, placeholder=" …")
    return f"  {name:<{NAMES}}{said}"


def _summary(option: Any) -> str:
    return textwrap.indent(textwrap.fill(" ".join((option.__doc__ or "").split()), WIDTH - 2), "  ")


def _entry(name: str, field: Any, description: str) -> str:
    flag = f"  --{name.replace('_', '-')} {_kind(field.type)}".rstrip()
    if len(flag) > WIDTH:
        flag = f"  --{name.replace('_', '-')} WORD"
        description = f"{description} One of {_kind(field.type).replace('|', ', ')}."
    found = "; ".join(filter(None, (_default(field), said_range(getattr(field.default, "metadata", ())))))
    text = f"{description} [{found}]" if found else description
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
    number = kind_of_number(kind)
    if kind is str or number is not None:
        return {str: "TEXT", int: "N", float: "X"}[number or str]
    found = [_kind(argument) for argument in typing.get_args(kind) if argument is not type(None)]
    if typing.get_origin(kind) is list:
        return f"{found[0] or '{KEY: VALUE}'} ..."
    if typing.get_origin(kind) is dict or str(kind).startswith("typing.Annotated"):
        return "{KEY: VALUE}"
    return "|".join(word for word in found if word)
