"""The one form that scores take: a share of a sum.

Every score here is Σ numerators / Σ denominators over answers: a rate (0 or 1 of 1), CHAIR (mentions that are not there
of all mentions), F1 (2·TP of 2·TP + FP + FN), ANLS (a similarity of 1). One representation serves intervals, groups and
comparisons alike. Left out: scores that are no ratio of sums, such as averages of per-class scores.
"""

from collections.abc import Iterable
from typing import NamedTuple


class Ratio(NamedTuple):
    """One answer's part in a score. A denominator of 0 says that the score does not concern this answer."""

    numerator: float
    denominator: float


EMPTY = Ratio(0.0, 0.0)
"""The part of an answer that a score does not concern."""

Ratios = dict[str, Ratio]
"""Scores of one answer by name."""


def rate(holds: bool) -> Ratio:
    """0 or 1 of 1."""
    return Ratio(float(holds), 1.0)


def amount(value: float | int) -> Ratio:
    """A number an answer, averaged over answers."""
    return Ratio(float(value), 1.0)


def total(ratios: Iterable[Ratio]) -> float:
    """Σ numerators / Σ denominators; 0 where there is nothing to divide by."""
    sums = [sum(column) for column in zip(*ratios, strict=True)] or [0.0, 0.0]
    return sums[0] / sums[1] if sums[1] else 0.0
