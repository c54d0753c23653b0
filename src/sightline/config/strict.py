"""How recipe dataclasses are checked: unknown keys refused, everything immutable, docstrings kept for `--help`."""

from typing import Annotated, Any

import yaml
from pydantic import BeforeValidator, ConfigDict

STRICT = ConfigDict(
    extra="forbid", use_attribute_docstrings=True, coerce_numbers_to_str=True, arbitrary_types_allowed=False
)


def parse_scalars(options: Any) -> Any:
    """Values of a free-form group come from flags as text: `"384"` means 384, `"false"` means False."""
    if not isinstance(options, dict):
        return options
    return {key: yaml.safe_load(value) if isinstance(value, str) else value for key, value in options.items()}


def one_or_several(given: Any) -> Any:
    """A list of one is written without brackets, in YAML and as a flag."""
    return [given] if isinstance(given, str) else given


Options = Annotated[dict[str, Any], BeforeValidator(parse_scalars)]
