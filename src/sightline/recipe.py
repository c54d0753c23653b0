"""YAML and flags → `Recipe`, and back. Imports no torch.

A recipe file is a tree of keys; a flag `--objective.beta 0.2` sets one key of that tree. The tree is then structured
into the dataclasses of `sightline.config`, which refuse what they do not know. Every complaint names the file and
line, or the flag.
"""

from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError

from sightline.config import DataConfig, Recipe
from sightline.config.complaint import complaints
from sightline.config.plain_yaml import parse_yaml, read_yaml
from sightline.errors import RecipeError, shown

SHORTHAND = {
    "model": "name",
    "data": "source",
    "objective": "type",
    "reference": "type",
    "sampler": "type",
    "pairs": "type",
}
"""`model: some/folder` stands for `model: {name: some/folder}`, in YAML and as `--model some/folder`."""

DEFAULT_TYPES = {"objective": "dpo", "sampler": "transformers", "pairs": "judged"}
"""The `type` of a group that names none."""

RENAMED = {
    "activation_checkpointing": "gradient_checkpointing",
    "resume_from_checkpoint": "resume",
    "warmup_ratio": "warmup_steps",
}
"""Names that transformers uses or used for the same thing."""

RENAMED_INSIDE = {"data": {"share_pictures": "share_images"}, "scenes": {"pictures": "images"}}
"""Keys of groups, or of groups in groups, that had another name before."""

Tree = dict[str, Any]


def load_recipe(path: str | Path | None = None, flags: list[str] | None = None) -> Recipe:
    """Read a recipe from a YAML file, from flags, or from a file with flags on top.

    Raises `RecipeError` for an unknown key or flag (with the nearest valid name), a value of the wrong type, a key
    given twice, or a file that is not YAML.
    """
    tree, lines = read_yaml(Path(path)) if path is not None else ({}, {})
    changes = parse_flags(flags or [])
    merged = merge(_for_other_rows(normalise(tree), normalise(changes)), normalise(changes))
    for group, kind in DEFAULT_TYPES.items():
        if isinstance(merged.get(group), dict):
            merged[group].setdefault("type", kind)
    return structure(merged, path=path, lines=lines, flags=changes)


def structure(
    tree: Tree, *, path: str | Path | None = None, lines: dict | None = None, flags: Tree | None = None
) -> Recipe:
    """Check a tree of plain values and make it a `Recipe`. Raises `RecipeError`."""
    _refuse_characters(tree, ())
    try:
        return TypeAdapter(Recipe).validate_python(tree)
    except ValidationError as error:
        raise RecipeError(complaints(error.errors(), path, lines or {}, flags or {})) from None


def _refuse_characters(value: Any, keys: tuple[str, ...]) -> None:
    """Raises for text that no file can hold: a lone surrogate (bytes of a flag that are no UTF-8) or a NUL."""
    if isinstance(value, str):
        found = next((c for c in value if c == "\0" or "\ud800" <= c <= "\udfff"), None)
        if found is not None:
            raise RecipeError(
                f"`{shown('.'.join(keys))}: {shown(value)}` holds {ascii(found)[1:-1]}, which cannot be written into a "
                "recipe. Take another name, or rename the file."
            )
    elif isinstance(value, dict):
        for key, inner in value.items():
            _refuse_characters(str(key), keys)
            _refuse_characters(inner, (*keys, str(key)))
    elif isinstance(value, list):
        for inner in value:
            _refuse_characters(inner, keys)


def tree_of(recipe: Recipe) -> Tree:
    """The recipe as plain values, with every field."""
    return TypeAdapter(Recipe).dump_python(recipe, mode="json")


def dump_recipe(recipe: Recipe) -> str:
    """The recipe as YAML text with every field, so that it can be run again as it is."""
    return yaml.safe_dump(tree_of(recipe), sort_keys=False, allow_unicode=True)


def parse_flags(flags: list[str]) -> Tree:
    """`['--objective.beta', '0.2', '--lora']` → `{'objective': {'beta': '0.2'}, 'lora': True}`."""
    tree: Tree = {}
    position = 0
    while position < len(flags):
        flag = flags[position]
        if not flag.startswith("--") or flag == "--":
            raise RecipeError(
                f"`{flag}` is neither a flag nor its value. Flags are written `--name value` or `--group.name value`."
            )
        position += 1
        name, equals, inline = flag[2:].partition("=")
        if equals:
            values = [inline]
        else:
            values = []
            while position < len(flags) and not _is_flag(flags[position]):
                values.append(flags[position])
                position += 1
        _set(tree, name.replace("-", "_").split("."), _flag_value(values), flag)
    return tree


def _is_flag(word: str) -> bool:
    return word.startswith("--") and word != "--"


def _flag_value(values: list[str]) -> Any:
    if not values:
        return True
    parsed = [_parse(value) for value in values]
    return parsed[0] if len(parsed) == 1 else parsed


def _parse(value: str) -> Any:
    """Lists and maps are written as in YAML; `none` is null; all else stays text for the field's own type to read."""
    if value.lower() in ("none", "null"):
        return None
    if value[:1] in "[{":
        return parse_yaml(value)
    return value


def _set(tree: Tree, keys: list[str], value: Any, flag: str) -> None:
    for key in keys[:-1]:
        current = tree.setdefault(key, {})
        if not isinstance(current, dict):
            current = tree[key] = {SHORTHAND[key]: current} if key in SHORTHAND else {}
        tree = current
    last = keys[-1]
    if last in tree and isinstance(tree[last], dict) and last in SHORTHAND and not isinstance(value, dict):
        tree[last][SHORTHAND[last]] = value
    elif last in tree:
        raise RecipeError(f"`{flag}` is given twice. Keep one of them.")
    else:
        tree[last] = value


def normalise(tree: Tree) -> Tree:
    """Shorthand groups spelled out, renamed keys under their present name."""
    result: Tree = {}
    for key, value in tree.items():
        name = RENAMED.get(str(key), str(key))
        if name in SHORTHAND and isinstance(value, str):
            value = {SHORTHAND[name]: value}
        if name == "lora" and value in (True, "true"):
            value = {}
        if name == "lora" and value in (False, "false"):
            value = None
        if name == "reference" and (value is None or (isinstance(value, dict) and value.get("type", "") is None)):
            value = {**(value or {}), "type": "none"}  # `none` is null on the command line
        if name == "report_to" and isinstance(value, str):
            value = [value]
        if name == "report_to" and value is None:
            value = []
        result[name] = _renamed_inside(name, value)
    return result


def _renamed_inside(group: str, value: Any) -> Any:
    """The group under its keys' present names. Where both names are given the earlier one stays, to be refused."""
    if isinstance(value, list):
        return [_renamed_inside(group, one) for one in value]
    if not isinstance(value, dict):
        return value
    renamed = RENAMED_INSIDE.get(group, {})
    return {
        (renamed[key] if key in renamed and renamed[key] not in value else key): _renamed_inside(str(key), inner)
        for key, inner in value.items()
    }


def merge(base: Tree, changes: Tree) -> Tree:
    """`changes` on top of `base`, group by group. A change of a group's `type` replaces the whole group."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        if isinstance(old, dict) and isinstance(value, dict) and not (key == "columns" and not value):
            same_type = "type" not in value or value["type"] == old.get("type", value["type"])
            result[key] = merge(old, value) if same_type else value
        else:
            result[key] = value
    return result


OF_THE_SOURCE = ("format", "subset", "split", "media_dir", "eval_source", "eval_split", "limit")
"""Keys of `data` that describe the rows of one source. `columns` stays: rows made for a recipe have its names."""


def of_other_rows(data: DataConfig, source: str) -> DataConfig:
    """The group `data` with another source, without what it says of its own rows."""
    plain = DataConfig()
    other = {} if source == data.source else {name: getattr(plain, name) for name in OF_THE_SOURCE}
    return replace(data, source=source, registry=None, mixture=[], **other)


def _for_other_rows(tree: Tree, changes: Tree) -> Tree:
    """The recipe without what it says of its own rows, where a flag names others."""
    if not _names_other_rows(tree, changes):
        return tree
    return {**tree, "data": {name: value for name, value in tree["data"].items() if name not in OF_THE_SOURCE}}


def _names_other_rows(tree: Tree, changes: Tree) -> bool:
    data, changed = tree.get("data"), changes.get("data")
    if not isinstance(data, dict) or not isinstance(changed, dict):
        return False
    return changed.get("source") not in (None, data.get("source"))


def left_out(path: str | Path, flags: list[str]) -> list[str]:
    """Keys of a recipe's file, such as `data.limit`, that do not hold because a flag names other rows than it does."""
    tree, changes = normalise(read_yaml(Path(path))[0]), normalise(parse_flags(flags))
    if not _names_other_rows(tree, changes):
        return []
    plain, data = vars(DataConfig()), tree["data"]
    said = [name for name in OF_THE_SOURCE if data.get(name, plain[name]) != plain[name]]
    return [f"data.{name}" for name in said if name not in changes["data"]]
