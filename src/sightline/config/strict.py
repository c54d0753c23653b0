"""How recipe dataclasses are checked: unknown keys refused, everything immutable, docstrings kept for `--help`."""

import math
from typing import Annotated, Any

from pydantic import BeforeValidator, ConfigDict

from sightline.config.plain_yaml import NUMBER, parse_scalar
from sightline.errors import shown

STRICT = ConfigDict(
    extra="forbid",
    use_attribute_docstrings=True,
    coerce_numbers_to_str=True,
    arbitrary_types_allowed=False,
    allow_inf_nan=False,
)


def parse_scalars(options: Any) -> Any:
    """Values of a free-form group come from flags as text: `"384"` means 384, `"false"` means False. In a list only
    numbers are read: `["yes", "no"]` are words. Raises `ValueError` for numbers that JSON cannot hold."""
    match options:
        case dict():
            found = {key: parse_scalars(value) for key, value in options.items()}
            for key, value in found.items():
                if isinstance(value, float) and not math.isfinite(value):
                    raise ValueError(f"`{shown(key)}: {value}` is no number to compute with. Give a finite one.")
            return found
        case list():
            return [parse_scalar(one) if isinstance(one, str) and NUMBER.fullmatch(one) else one for one in options]
        case str():
            return parse_scalar(options)
    return options


def none_is_a_word(given: Any) -> Any:
    """`none` on the command line is null everywhere; where it is one of the words of a field, it is that word."""
    return "none" if given is None else given


def one_or_several(given: Any) -> Any:
    """A list of one is written without brackets, in YAML and as a flag."""
    return [given] if isinstance(given, str) else given


Options = Annotated[dict[str, Any], BeforeValidator(parse_scalars)]
