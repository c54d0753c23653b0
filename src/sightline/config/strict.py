"""How recipe dataclasses are checked: unknown keys refused, everything immutable, docstrings kept for `--help`."""

from pydantic import ConfigDict

STRICT = ConfigDict(extra="forbid", use_attribute_docstrings=True, coerce_numbers_to_str=True, arbitrary_types_allowed=False)
