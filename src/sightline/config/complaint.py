"""What is wrong with a recipe, in a sentence: which file and line or flag, which key, and the nearest that there is."""

from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

from sightline.config import Recipe
from sightline.config.numbers import NO_NUMBER, expected_number
from sightline.errors import did_you_mean, shown

COMMON_NAMES = {"lr": "learning_rate", "batch_size": "per_device_train_batch_size", "epochs": "num_train_epochs"}
"""What people type for what transformers calls otherwise: a hint, not an alias."""
SCALARS = ("bool", "int", "float", "str")
"""With `literal[…]` and `list[…]`, what pydantic adds to the place of a value that may be of several kinds."""


def complaints(
    errors: list[Any], path: str | Path | None, lines: dict[tuple[str, ...], int], flags: dict[str, Any]
) -> str:
    """All of pydantic's errors, a line each; what the kinds of value of one key say is one line."""
    said: dict[str, list[str]] = {}
    for error in errors:
        value, cannot, message = complaint(error, path, lines, flags).partition(" cannot be. ")
        said.setdefault(value + cannot, []).append(message)
    return "\n".join(value + " Or: ".join(dict.fromkeys(messages)) for value, messages in said.items())


def complaint(error: Any, path: str | Path | None, lines: dict[tuple[str, ...], int], flags: dict[str, Any]) -> str:
    """One of pydantic's errors as a sentence. lines: of a file's keys. flags: the tree that flags made."""
    keys, owner = _keys(error["loc"])
    name = shown(".".join(keys))
    where = _where(keys, path, lines, flags)
    match error["type"]:
        case "unexpected_keyword_argument" | "extra_forbidden":
            return f"{where}: there is no `{name}`. {_nearest(keys, owner)}"
        case "union_tag_invalid":
            got = error["ctx"]["tag"]
            known = [tag.strip(" '") for tag in error["ctx"]["expected_tags"].split(",")]
            words = [f"{where}: `{name}.type: {shown(got)}` is not known.", did_you_mean(str(got), known)]
            return " ".join([*filter(None, words), f"Known: {', '.join(known)}."])
        case "union_tag_not_found":
            return f"{where}: `{name}` needs a `type`."
        case _ if error["input"] is True and _given(keys, flags) is True:
            expected = _expected(error, keys, owner) or ""
            return f"{where} was given without its value: write `--{name.replace('_', '-')} VALUE`. {expected}".rstrip()
        case "dataclass_type":
            return (
                f"{where}: `{name}` is a group of keys, got `{shown(error['input'])}`. Write `{name}: {{key: value}}`."
            )
    message = error["msg"].removeprefix("Value error, ")
    if error["type"] == "value_error":
        is_named = not keys or name in message or f"`{keys[-1]}" in message or isinstance(error["input"], dict)
        return f"{where}: {message}" if is_named else f"{where}: `{name}`: {message}"
    got = shown(error["input"]) if not isinstance(error["input"], dict) else "a group of keys"
    return f"{where}: `{name}: {got}` cannot be. {_expected(error, keys, owner) or message + '.'}"


def _expected(error: Any, keys: tuple[str, ...], owner: Any) -> str | None:
    """What a number has to be; None where something else is wrong."""
    field = getattr(owner, "__pydantic_fields__", {}).get(keys[-1]) if keys else None
    expected = None if field is None else expected_number(field)
    if error["type"] == NO_NUMBER and isinstance(error["input"], str):
        return f"{error['msg']} {expected or ''}".strip()
    return expected


def _keys(location: tuple) -> tuple[tuple[str, ...], Any]:
    """Pydantic's location without the tags of unions, and the dataclass that holds its last key."""
    keys: list[str] = []
    kind: Any = Recipe
    owner: Any = Recipe
    for part in location:
        tagged = next(
            (option for option in dataclasses_in(kind) if not is_dataclass(kind) and part in _tags(option)), None
        )
        if tagged is not None:
            kind = tagged
            continue
        if (kind is None and part in SCALARS) or "[" in str(part):
            continue
        owner = kind if is_dataclass(kind) else owner
        keys.append(str(part))
        kind = _field_type(kind, part) if is_dataclass(kind) and part in {f.name for f in fields(kind)} else None
    return tuple(keys), owner


def _field_type(owner: Any, name: Any) -> Any:
    kind = next(f.type for f in fields(owner) if f.name == name)
    options = dataclasses_in(kind)
    return options[0] if len(options) == 1 else kind if options else None


def dataclasses_in(kind: Any) -> list[Any]:
    """The recipe dataclasses that a field's type admits: none, one, or the options of a union."""
    if isinstance(kind, type) and is_dataclass(kind):
        return [kind]
    return [found for argument in get_args(kind) for found in dataclasses_in(argument)]


def _tag(kind: Any) -> Any:
    return next((f.default for f in fields(kind) if f.name == "type"), None)


def _tags(kind: Any) -> tuple[Any, ...]:
    """Every value of `type` that means this dataclass; the first is its own name."""
    return next((get_args(f.type) for f in fields(kind) if f.name == "type"), ())


def _where(
    keys: tuple[str, ...], path: str | Path | None, lines: dict[tuple[str, ...], int], flags: dict[str, Any]
) -> str:
    if keys and _given(keys, flags) is not None:
        return f"Flag --{shown('.'.join(_named(keys)))}"
    for length in range(len(keys), 0, -1):
        if keys[:length] in lines:
            return f"{shown(path, 300)}, line {lines[keys[:length]]}"
    return shown(path, 300) if path is not None else "Recipe"


def _named(keys: tuple[str, ...]) -> tuple[str, ...]:
    """The keys that a flag can name: it gives a list as a whole."""
    return tuple(key for key in keys if not key.isdigit())


def _given(keys: tuple[str, ...], flags: dict[str, Any]) -> Any:
    """What the flags say of a key: True for a bare flag, None where they say nothing."""
    inside: Any = flags
    for key in _named(keys):
        inside = inside.get(key) if isinstance(inside, dict) else None
    return inside


def _nearest(keys: tuple[str, ...], owner: Any) -> str:
    """A hint for an unknown key: the nearest in its group, else the same name elsewhere, else what there is."""
    group = "".join(f"{key}." for key in keys[:-1])
    here = [f.name for f in fields(owner)]
    wanted = COMMON_NAMES.get(keys[-1], keys[-1])
    if hint := did_you_mean(wanted, here, written=f"`{group}{{}}`"):
        return hint
    elsewhere = [n for n in all_names() if n.rpartition(".")[2] == wanted and n != ".".join(keys)]
    if elsewhere:
        return f"Did you mean `{elsewhere[0]}`?"
    kind = _tag(owner)
    of_what = f"`{keys[-2]}.type: {kind}` takes" if kind else "Known here:"
    return f"{of_what} {', '.join(name for name in here if name != 'type') or 'no options'}."


def all_names(owner: Any = Recipe, prefix: str = "") -> list[str]:
    """Every key a recipe can have, dotted."""
    names: list[str] = []
    for f in fields(owner):
        name = prefix + f.name
        names.append(name)
        for option in dataclasses_in(f.type):
            names += all_names(option, f"{name}.")
    return list(dict.fromkeys(names))
