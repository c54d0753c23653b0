"""YAML into plain values, bounded before anything is built: size, depth, and what aliases stand for. No object of
Python's own, no date: text that looks like one stays text, and so does a number that is not written as it would be
printed (`1.10`, `007`, `5e-6`), for the field's own type to read."""

import re
import stat
from pathlib import Path
from typing import Any, NoReturn

import yaml

from sightline.errors import RecipeError, shown

MAX_BYTES = 512 * 1024
MAX_DEPTH = 24
MAX_VALUES = 20_000
"""Of a document, with every alias counted as what it stands for."""

STANDARD = "tag:yaml.org,2002:"
TAGS = tuple(STANDARD + kind for kind in ("str", "seq", "map", "binary"))
"""That may be written out; the others only say what a value is by itself, or make Python objects."""

Lines = dict[tuple[str, ...], int]
"""Path of a key (entries of lists by their number) → its line in the file, from 1."""


class PlainLoader(yaml.SafeLoader):
    """Refuses while it composes: a document that is too deep or too large never becomes one."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.depth = 0
        self.num_composed = 0
        self.num_values: dict[int, int] = {}
        self.heights: dict[int, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """A value with all that is in it, or what an alias stands for."""
        event: Any = self.peek_event()
        tag = getattr(event, "tag", None)
        if tag not in (None, "!", *TAGS):
            self._refuse(event, f"the tag `{shown(tag.replace(STANDARD, '!!'))}`: values are plain here")
        self.depth += 1
        self.num_composed += 1
        if self.depth > MAX_DEPTH:
            self._refuse(event, f"more than {MAX_DEPTH} levels, one inside another")
        node: Any = super().compose_node(parent, index)
        if id(node) not in self.num_values:
            # a collection gets its end when all of it is there; an alias may name one that is still open
            if node.end_mark is None:
                self._refuse(event, "an alias of what it is itself a part of")
            self._measure(node)
        if max(self.num_composed, self.num_values[id(node)]) > MAX_VALUES:
            self._refuse(event, f"more than {MAX_VALUES:,} values, aliases counted as what they stand for")
        if self.depth + self.heights[id(node)] > MAX_DEPTH:
            self._refuse(event, f"more than {MAX_DEPTH} levels, one inside another")
        self.depth -= 1
        return node

    @staticmethod
    def _refuse(event: Any, why: str) -> NoReturn:
        raise yaml.MarkedYAMLError(problem=why, problem_mark=event.start_mark)

    def _measure(self, node: Any) -> None:
        inside = [part for entry in _entries(node) for part in entry]
        self.num_values[id(node)] = 1 + sum(self.num_values[id(part)] for part in inside)
        self.heights[id(node)] = 1 + max((self.heights[id(part)] for part in inside), default=-1)


def _entries(node: Any) -> list[tuple[Any, ...]]:
    match node:
        case yaml.MappingNode():
            return node.value
        case yaml.SequenceNode():
            return [(entry,) for entry in node.value]
    return []


PlainLoader.yaml_implicit_resolvers = {}
for kind, pattern, first in (
    ("bool", r"yes|Yes|YES|no|No|NO|true|True|TRUE|false|False|FALSE|on|On|ON|off|Off|OFF", "yYnNtTfFoO"),
    ("null", r"~|null|Null|NULL|", ["~", "n", "N", ""]),
    ("int", r"-?(0|[1-9][0-9]{0,18})", "-0123456789"),
    ("float", r"-?(0|[1-9][0-9]{0,15})\.(0|[0-9]{0,15}[1-9])|[-+]?\.(inf|Inf|INF)|\.(nan|NaN|NAN)", "-+.0123456789"),
    ("merge", r"<<", "<"),
):
    PlainLoader.add_implicit_resolver(STANDARD + kind, re.compile(rf"(?:{pattern})\Z"), list(first))


def read_yaml(path: Path) -> tuple[dict[str, Any], Lines]:
    """A YAML file as a tree, and the line of each key. Raises `RecipeError`."""
    tree, lines = _parse(_read_text(path), f"{shown(path)} is not YAML that is read here")
    if tree is None:
        return {}, {}
    if not isinstance(tree, dict):
        raise RecipeError(f"{shown(path)} holds a {type(tree).__name__}; a recipe is a set of `key: value` lines.")
    return tree, lines


def parse_yaml(text: str) -> Any:
    """A value as YAML writes it in a line: `{a: 1}`, `[1, 2]`, `none`. Raises `RecipeError`."""
    return _parse(text, f"`{shown(text)}` is not YAML that is read here")[0]


def parse_scalar(text: str) -> Any:
    """The number, boolean or null that a text is, as YAML writes it and as people do (`5e-6`); else the text."""
    if NUMBER.fullmatch(text):
        return float(text) if set(text) & set(".eE") else int(text)
    tag = PlainLoader("").resolve(yaml.ScalarNode, text, (True, False))
    return text if tag == STANDARD + "str" else PlainLoader("").construct_object(yaml.ScalarNode(tag, text))


NUMBER = re.compile(r"[+-]?([0-9]{1,300}\.?[0-9]{0,300}|\.[0-9]{1,300})([eE][+-]?[0-9]{1,300})?")


def _parse(text: str, complaint: str) -> tuple[Any, Lines]:
    try:
        loader = PlainLoader(text)
        node = loader.get_single_node()
        lines: Lines = {}
        if node is not None:
            _key_lines(node, (), lines, complaint.removesuffix(" is not YAML that is read here"))
        return (None if node is None else loader.construct_document(node)), lines
    except yaml.YAMLError as error:
        raise RecipeError(f"{complaint}: {_reason(error)}.") from None


def _reason(error: yaml.YAMLError) -> str:
    if not isinstance(error, yaml.MarkedYAMLError):
        return " ".join(str(error).split())
    why = ", ".join(shown(part) for part in (error.context, error.problem) if part)
    mark = error.problem_mark
    return why if mark is None else f"line {mark.line + 1}: {why}"


def _key_lines(node: Any, prefix: tuple[str, ...], lines: Lines, where: str) -> None:
    """The lines of all keys; raises `RecipeError` for one that is given twice."""
    if isinstance(node, yaml.SequenceNode):
        for number, entry in enumerate(node.value):
            lines[(*prefix, str(number))] = entry.start_mark.line + 1
            _key_lines(entry, (*prefix, str(number)), lines, where)
    if not isinstance(node, yaml.MappingNode):
        return
    for key_node, value_node in node.value:
        key = (*prefix, str(key_node.value))
        line = key_node.start_mark.line + 1
        if key in lines:
            raise RecipeError(
                f"{where}, line {line}: `{shown('.'.join(key))}` is given a second time (first on line {lines[key]}). "
                "Keep one of them."
            )
        lines[key] = line
        _key_lines(value_node, key, lines, where)


def _read_text(path: Path) -> str:
    """The text of a regular file of at most `MAX_BYTES`. Raises `RecipeError`."""
    try:
        status = path.stat()
        if stat.S_ISREG(status.st_mode) and status.st_size <= MAX_BYTES:
            return path.read_bytes().decode("utf-8")
    except UnicodeDecodeError as error:
        raise RecipeError(f"{shown(path)} is not YAML: {error}. Save it as UTF-8 text.") from None
    except (OSError, ValueError) as error:  # a name that is too long, or that holds a NUL
        why = getattr(error, "strerror", None) or str(error)
    else:
        why = f"it has {status.st_size:,} bytes, and a recipe has at most {MAX_BYTES:,}"
        if not stat.S_ISREG(status.st_mode):
            why = "it is a folder" if stat.S_ISDIR(status.st_mode) else "it is no file with a beginning and an end"
    raise RecipeError(
        f"There is no recipe {shown(path)}: {why}. Give the path of a YAML file (`sightline recipe copy NAME` writes "
        "one of those that `sightline recipe list` shows), or flags alone (`--model … --data …`)."
    )
