"""An estimate with its 95% interval, and Wilson's score interval (1927) for rates of independent items."""

from math import sqrt
from typing import NamedTuple

Z_95 = 1.959963984540054


class Interval(NamedTuple):
    """An estimate with its 95% interval, as shares in 0…1 (or in percent after `percent()`)."""

    value: float
    low: float
    high: float

    def percent(self) -> "Interval":
        """The same interval times 100."""
        return Interval(100 * self.value, 100 * self.low, 100 * self.high)


def wilson(successes: float | int, total: int) -> Interval:
    """Wilson's interval for `successes` (whole, or ties as halves) out of `total` items; (0, 0, 1) for no items."""
    if total == 0:
        return Interval(0.0, 0.0, 1.0)
    rate = successes / total
    shrink = 1 + Z_95**2 / total
    centre = (rate + Z_95**2 / (2 * total)) / shrink
    half = Z_95 * sqrt(rate * (1 - rate) / total + Z_95**2 / (4 * total**2)) / shrink
    # at 0 and at 1 the bound is the rate itself; rounding would put it a hair inside
    return Interval(rate, min(rate, max(0.0, centre - half)), max(rate, min(1.0, centre + half)))
