"""The numbers of a recipe: each finite, within a range that is declared with its field, and never a boolean."""

import re
from collections.abc import Iterable
from typing import Annotated, Any, get_args, get_origin

from pydantic import BeforeValidator
from pydantic.fields import FieldInfo
from pydantic_core import PydanticCustomError

NOT_ZERO = re.compile(r"[1-9]")
NO_NUMBER = "no_number"
"""Type of the error for a value that is no number at all, though Python would make it one."""


def _number(given: Any) -> Any:
    """Raises for a boolean, which Python takes for 0 or 1, and for a number so small that it would be 0."""
    if isinstance(given, bool):
        raise PydanticCustomError(NO_NUMBER, "Expected a number.")
    if isinstance(given, str) and NOT_ZERO.search(given.lower().partition("e")[0]) and _is_zero(given):
        raise PydanticCustomError(NO_NUMBER, "So small a number would be 0.")
    return given


def _is_zero(text: str) -> bool:
    try:
        return float(text) == 0
    except ValueError:  # the field's own type says what is wrong
        return False


Whole = Annotated[int, BeforeValidator(_number)]
"""A whole number; the field declares its range."""
Real = Annotated[float, BeforeValidator(_number)]
"""A number; the field declares its range."""


def kind_of_number(annotation: Any) -> type | None:
    """int or float where an annotation is `Whole`, `Real`, or either beside None; else None."""
    if get_origin(annotation) is Annotated:
        annotation = get_args(annotation)[0]
    if annotation in (int, float):
        return annotation
    found = [kind_of_number(part) for part in get_args(annotation) if part is not type(None)]
    return found[0] if len(found) == 1 else None


def said_range(limits: Iterable[Any]) -> str:
    """`0 to 100` or `above 0, up to 1e6`, from pydantic's constraints; empty where there are none."""
    names = ("gt", "ge", "lt", "le")
    found = {name: said(getattr(limit, name)) for limit in limits for name in names if hasattr(limit, name)}
    if "ge" in found and "le" in found:
        return f"{found['ge']} to {found['le']}"
    words = {"gt": "above", "ge": "from", "lt": "below", "le": "up to"}
    return ", ".join(f"{word} {found[name]}" for name, word in words.items() if name in found)


def said(number: int | float) -> str:
    """A bound as it is written: 65,536, 0.5, 1e9."""
    power = f"1e{len(str(int(number))) - 1}"
    if number >= 1e6 and float(power) == number:
        return power
    return f"{number:,}" if number == int(number) else str(number)


def expected_number(field: FieldInfo) -> str | None:
    """`Expected a whole number, 1 to 65,536.`; None for a field that is no number."""
    kind = kind_of_number(field.annotation)
    if kind is None:
        return None
    limits = said_range(field.metadata)
    return f"Expected a {'whole ' if kind is int else ''}number{', ' if limits else ''}{limits}."
