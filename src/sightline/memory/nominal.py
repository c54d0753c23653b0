"""The arithmetic done by hand: N parameters of P bytes each, once for the model, once for the reference, once for the
gradients and twice for AdamW's states, as in huggingface.co/blog/dpo_vlm. It knows no activations.

Nominal numbers are those of the model's name (8 billion); exact ones are counted.
"""

import re
from dataclasses import dataclass
from math import floor, log10


@dataclass(frozen=True, kw_only=True)
class Term:
    """One line of the sum: bytes by nominal and by exact numbers."""

    name: str
    formula: str
    nominal: float | int
    exact: int


@dataclass(frozen=True, kw_only=True)
class Sum:
    """One way to train, added up by hand."""

    title: str
    terms: tuple[Term, ...]

    @property
    def nominal(self) -> float | int:
        return sum(term.nominal for term in self.terms)

    @property
    def exact(self) -> int:
        return sum(term.exact for term in self.terms)


def by_hand(title: str, *, nominal: float | int, exact: int, trained: int, itemsize: int) -> Sum:
    """The sum for a model of `exact` parameters, `trained` of which have gradients, in `itemsize` bytes each."""
    nominal_trained = nominal if trained == exact else significant(trained, 2)
    whole, part = spelled(nominal), spelled(nominal_trained)
    return Sum(
        title=title,
        terms=(
            Term(name="model", formula=f"{whole} × {itemsize}", nominal=nominal * itemsize, exact=exact * itemsize),
            Term(name="reference", formula=f"{whole} × {itemsize}", nominal=nominal * itemsize, exact=exact * itemsize),
            Term(
                name="gradients",
                formula=f"{part} × {itemsize}",
                nominal=nominal_trained * itemsize,
                exact=trained * itemsize,
            ),
            Term(
                name="AdamW",
                formula=f"2 × {part} × {itemsize}",
                nominal=2 * nominal_trained * itemsize,
                exact=2 * trained * itemsize,
            ),
        ),
    )


def nominal_parameters(name: str, exact: int) -> float | int:
    """The number in the model's name (8b, 500M, 2.2B), else the exact one to a digit."""
    found = re.findall(r"(?<![\d.])(\d+(?:\.\d+)?)([bm])(?![a-z])", name.rpartition("/")[2].lower())
    if found:
        number, unit = found[-1]
        return float(number) * {"b": 1e9, "m": 1e6}[unit]
    return significant(exact, 1)


def significant(number: float | int, digits: int) -> float | int:
    """A number to so many significant digits."""
    return round(number, digits - 1 - floor(log10(number)))


def spelled(number: float | int) -> str:
    """8×10⁹, 55×10⁶."""
    exponent = "9" if number >= 1e9 else "6"
    return f"{number / 10 ** int(exponent):g}×10{'⁹' if exponent == '9' else '⁶'}"
