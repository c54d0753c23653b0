"""How sure a score is: intervals for one model, tests for two models on the same items.

Shares are in 0…1 everywhere here; `Interval.percent()` turns them into percent. All intervals are 95%.
Rates of independent items: Wilson (1927). Ratios of sums (CHAIR, Cover, F1): a bootstrap that draws whole clusters,
because the questions on one picture are right or wrong together. Two models: McNemar's exact test (1947) on right and
wrong answers, a paired bootstrap on anything else. Left out: corrections for testing many pairs of models.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from math import sqrt
from typing import NamedTuple

import numpy as np

from sightline.scoring.interval import Z_95, Interval, wilson

Values = Sequence[float | int | bool] | np.ndarray

Z_80_POWER = 0.8416212335729143
_COUNTS_AT_ONCE = 2_000_000


class McNemar(NamedTuple):
    """Two models on the same items: how many only one of them got right, and how likely such a split is by chance."""

    only_a: int
    only_b: int
    p_value: float


class Difference(NamedTuple):
    """b minus a with its 95% interval, and a two-sided p-value."""

    value: float
    low: float
    high: float
    p_value: float


def clustered_bootstrap(
    numerators: Values,
    denominators: Values,
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
    *,
    is_share: bool = True,
) -> Interval:
    """Σ numerators / Σ denominators with a percentile bootstrap that draws whole clusters (pictures) with replacement.

    One entry an item in each argument. CHAIR: hallucinated and all mentions of a caption; F1: 2·TP and 2·TP+FP+FN of an
    answer; a rate: 0/1 and 1. Where the ratio is exactly 0 or 1, every draw repeats it and a bootstrap would claim
    certainty; the interval is then Wilson's for as many items as there are clusters, unless the ratio is no share of
    anything (`is_share=False`: words an answer). (0, 0, 1) when there is nothing to divide by.
    """
    sums = _cluster_sums([numerators, denominators], clusters)
    total_numerator, total_denominator = sums.sum(axis=0)
    if total_denominator == 0:
        return Interval(0.0, 0.0, 1.0)
    ratio = float(total_numerator / total_denominator)
    if is_share and ratio in (0.0, 1.0):
        return wilson(ratio * len(sums), len(sums))
    drawn = _resampled_sums(sums, seed, resamples)
    ratios = _ratio(drawn[:, 0], drawn[:, 1])
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Interval(ratio, float(low), float(high))


def mcnemar_exact(a_correct: Values, b_correct: Values) -> McNemar:
    """McNemar's exact test: given the items that only one model got right, is the split further from half than chance?

    Two-sided binomial test at ½; p is 1.0 when the models never differ. Items in the same order in both arguments.
    """
    a, b = np.asarray(a_correct, dtype=bool), np.asarray(b_correct, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"McNemar's test needs both models' answers to the same items; got {len(a)} and {len(b)}.")
    only_a, only_b = int((a & ~b).sum()), int((~a & b).sum())
    return McNemar(only_a, only_b, _two_sided_binomial(min(only_a, only_b), only_a + only_b))


def _two_sided_binomial(smaller: int, total: int) -> float:
    """2 · P(X ≤ smaller) for X ~ Binomial(total, ½), at most 1. Whole numbers until the last division: no underflow."""
    tail, term = 0, 1
    for i in range(smaller + 1):
        tail += term
        term = term * (total - i) // (i + 1)
    return min(1.0, 2 * tail / 2**total)


def paired_bootstrap(
    a_numerators: Values,
    a_denominators: Values,
    b_numerators: Values,
    b_denominators: Values,
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
) -> Difference:
    """The ratio of b minus the ratio of a on the same items, with an interval from drawing whole clusters.

    p-value: twice the share of draws on the other side of zero, counted so that it is never 0 (Davison & Hinkley 1997,
    §4.2). Every draw takes the same pictures for both models, so what makes a picture hard cancels.
    """
    sums = _cluster_sums([a_numerators, a_denominators, b_numerators, b_denominators], clusters)
    total = sums.sum(axis=0, keepdims=True)
    drawn = _resampled_sums(sums, seed, resamples)
    value = float((_ratio(total[:, 2], total[:, 3]) - _ratio(total[:, 0], total[:, 1]))[0])
    differences = _ratio(drawn[:, 2], drawn[:, 3]) - _ratio(drawn[:, 0], drawn[:, 1])
    low, high = np.quantile(differences, [0.025, 0.975])
    fewer = min(int((differences <= 0).sum()), int((differences >= 0).sum()))
    return Difference(value, float(low), float(high), min(1.0, 2 * (fewer + 1) / (resamples + 1)))


def smallest_detectable_difference(total: int, discordant: int) -> float:
    """The smallest difference in accuracy that `total` items show at p < 0.05 in four of five such experiments.

    Connor's formula (1987) for McNemar's test: δ = (z₀.₉₇₅ √ψ + z₀.₈ √(ψ − δ²)) / √n with ψ the share of items on which
    the models differ; ψ is the observed share, and at least δ itself, since no difference comes without disagreement.
    """
    if total == 0:
        return 1.0
    differing, difference = discordant / total, 1.0
    for _ in range(100):
        share = max(differing, difference)
        difference = min(1.0, (Z_95 * sqrt(share) + Z_80_POWER * sqrt(max(share - difference**2, 0.0))) / sqrt(total))
    return difference


def _cluster_sums(columns: list[Values], clusters: Sequence[Hashable]) -> np.ndarray:
    """[clusters, columns]: every column summed within each cluster, clusters in order of appearance."""
    numbers: dict[Hashable, int] = {}
    index = np.array([numbers.setdefault(c, len(numbers)) for c in clusters], dtype=np.int64)
    for column in columns:
        if len(column) != len(index):
            raise ValueError(f"one value and one cluster an item: got {len(column)} values and {len(index)} clusters.")
    sums = [np.bincount(index, weights=np.asarray(c, dtype=np.float64), minlength=len(numbers)) for c in columns]
    return np.stack(sums, axis=1)


def _resampled_sums(sums: np.ndarray, seed: int, resamples: int) -> np.ndarray:
    """[resamples, columns]: column sums of that many draws of all clusters with replacement."""
    counts = _draws(len(sums), seed, resamples)
    at_once = max(1, _COUNTS_AT_ONCE // max(1, len(sums)))
    parts = [counts[start : start + at_once].astype(np.float64) @ sums for start in range(0, resamples, at_once)]
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _draws(num_clusters: int, seed: int, resamples: int) -> np.ndarray:
    """[resamples, clusters]: how often each cluster is drawn; one table serves every score of one set of pictures."""
    random = np.random.default_rng(seed)
    counts = np.zeros((resamples, num_clusters), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(random.integers(num_clusters, size=num_clusters), minlength=num_clusters)
    return counts


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient; 0 where there is nothing to divide by (a draw without a single mention)."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
