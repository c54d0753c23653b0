"""From runs to the figures of the table: medians of pairs, their spread, and the gate that makes them worth reading."""

import math
from dataclasses import dataclass
from statistics import median

from benchmarks.step.case import Case, Measured

LOSS_TOLERANCE = 1e-5
RELATIVE_TOLERANCE = 1e-4
WAY_TOLERANCE = 1e-2
"""AdamW turns gradients that are nothing but rounding into steps of full length, so weights part sooner than losses."""


def step_seconds(case: Case, run: Measured) -> float:
    """Wall time of a step: the median over the counted ones."""
    return median(run.wall[case.counted])


def step_cpu(case: Case, run: Measured) -> float:
    """CPU time of a step, all threads: the median over the counted ones."""
    return median(run.cpu[case.counted])


def waiting_share(case: Case, run: Measured) -> float:
    """Share of the counted steps' time in which the loop waited for data."""
    return sum(run.waited[case.counted]) / sum(run.wall[case.counted])


def tower_passes(case: Case, run: Measured) -> float:
    """How often each image went through the tower in a step."""
    return median(run.tiles[case.counted]) / (case.groups * run.tiles_a_image)


@dataclass(frozen=True, kw_only=True)
class Spread:
    """The median of some ratios, the lowest and the highest."""

    median: float
    low: float
    high: float


def spread(values: list[float]) -> Spread:
    return Spread(median=median(values), low=min(values), high=max(values))


@dataclass(frozen=True, kw_only=True)
class Gate:
    """How far two programs' runs are apart: losses, absolute; gradient norms, relative; the adapter at the start and
    the way that it went, relative to its length."""

    loss: float
    gradient_norm: float
    start: float
    way: float

    @property
    def holds(self) -> bool:
        """Whether both programs did the same training."""
        values = max(self.gradient_norm, self.start) <= RELATIVE_TOLERANCE and self.way <= WAY_TOLERANCE
        return self.loss <= LOSS_TOLERANCE and values


def gate(ours: Measured, theirs: Measured) -> Gate:
    """Compare two runs step by step."""
    return Gate(
        loss=max(abs(a - b) for a, b in zip(ours.losses, theirs.losses, strict=True)),
        gradient_norm=max(abs(a / b - 1) for a, b in zip(ours.gradient_norms, theirs.gradient_norms, strict=True)),
        start=apart(ours.start, theirs.start),
        way=apart(ours.way, theirs.way),
    )


def apart(ours: list[float], theirs: list[float]) -> float:
    """‖ours − theirs‖ / ‖theirs‖, as fixed random directions show it."""
    squares = sum((a - b) ** 2 for a, b in zip(ours, theirs, strict=True))
    return math.sqrt(squares / sum(b**2 for b in theirs))
