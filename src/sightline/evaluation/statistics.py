"""How sure a score is: intervals for one model, tests for two models on the same items.

Shares are in 0…1 everywhere here; `Interval.percent()` turns them into percent. All intervals are 95%.
Rates of independent items: Wilson (1927). Rates of several items an image, and ratios of sums (CHAIR, Cover, F1): a
bootstrap that draws whole clusters, because the questions on one image are right or wrong together. Two models:
McNemar's exact test (1947) over images on right and wrong answers, a paired bootstrap on anything else. Few images
give wide intervals and no small p. Left out: corrections for testing many pairs of models.
"""

from collections.abc import Hashable, Sequence
from functools import lru_cache
from itertools import product
from math import sqrt
from typing import NamedTuple

import numpy as np

from sightline.scoring.interval import Z_95, Interval, wilson

Values = Sequence[float | int | bool] | np.ndarray

Z_80_POWER = 0.8416212335729143
FEW = 10
"""Clusters below which a percentile bootstrap is too narrow."""
T_95 = (12.706, 4.303, 3.182, 2.776, 2.571, 2.447, 2.365, 2.306)
"""Student's t for 1 to `FEW` − 2 degrees of freedom."""
MOST_SWAPPED = 12
"""Clusters that differ up to which all swaps are tried (4,096); above, a bootstrap gives no p below 2·2⁻ⁿ either."""
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


def ratio_interval(
    numerators: Values,
    denominators: Values,
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
    *,
    is_share: bool = True,
) -> Interval:
    """Σ numerators / Σ denominators with its interval; one entry an item in each argument.

    CHAIR: hallucinated and all mentions of a caption; F1: 2·TP and 2·TP+FP+FN of an answer; a rate: 0/1 and 1. A rate
    with one item a cluster (image) has Wilson's interval. Anything else has a percentile bootstrap that draws whole
    clusters with replacement; from fewer than `FEW` clusters, or where all clusters agree, a bootstrap would claim more
    than it knows, and `_of_few` takes its place. is_share: False for what can exceed 1 (words an answer).
    (0, 0, 1) when there is nothing to divide by.
    """
    sums = _cluster_sums([numerators, denominators], clusters)
    concerned = int(np.count_nonzero(sums[:, 1]))
    if concerned == 0:
        return Interval(0.0, 0.0, 1.0)
    if is_share and np.isin(sums, (0, 1)).all():
        return wilson(float(sums[:, 0].sum()), concerned)
    if concerned >= FEW:
        drawn = _resampled_sums(sums, seed, resamples)
        low, high = np.quantile(_ratio(drawn[:, 0], drawn[:, 1]), [0.025, 0.975])
        if low < high:
            return Interval(float(sums[:, 0].sum() / sums[:, 1].sum()), float(low), float(high))
    return _of_few(sums, is_share)


def _of_few(sums: np.ndarray, is_share: bool) -> Interval:
    """The interval of a ratio from few clusters, or from clusters that all agree; it never has width 0.

    A share: Wilson's, as if every cluster were one item that is right or wrong, which is the widest spread that a share
    can have. Anything else: Student's t on the clusters; where they agree, or there is one, their spread is taken to be
    as large as the ratio itself.
    """
    sums = sums[sums[:, 1] > 0]
    ratio, clusters = float(sums[:, 0].sum() / sums[:, 1].sum()), len(sums)
    if is_share:
        return wilson(ratio * clusters, clusters)
    residuals = (sums[:, 0] - ratio * sums[:, 1]) / sums[:, 1].mean()
    spread = float(np.sqrt((residuals**2).sum() / max(1, clusters - 1))) or ratio or 1.0
    t = T_95[clusters - 2] if 2 <= clusters < FEW else Z_95 if clusters >= FEW else T_95[0]
    half = t * spread / sqrt(clusters)
    return Interval(ratio, max(0.0, ratio - half), ratio + half)


def mcnemar(a_correct: Values, b_correct: Values, clusters: Sequence[Hashable]) -> McNemar:
    """McNemar's exact test over clusters: given where the models differ, is the split further from half than chance?

    By chance every cluster's gain (items that only b got right, less those that only a did) is as likely a loss; p is
    the share of all such swaps that differ as much in sum, counted exactly. With one item a cluster this is McNemar's
    exact test, the two-sided binomial test at ½. n clusters that differ give no p below 2·2⁻ⁿ; without a difference p
    is 1. Items in the same order in all arguments.
    """
    a, b = np.asarray(a_correct, dtype=bool), np.asarray(b_correct, dtype=bool)
    if a.shape != b.shape:
        raise ValueError(f"McNemar's test needs both models' answers to the same items; got {len(a)} and {len(b)}.")
    gains = _cluster_sums([b.astype(int) - a.astype(int)], clusters)[:, 0]
    return McNemar(int((a & ~b).sum()), int((~a & b).sum()), _swaps_as_large(gains.astype(int)))


def _swaps_as_large(gains: np.ndarray) -> float:
    """The share of all choices of signs with |Σ ±gains| ≥ |Σ gains|: sums are counted, cluster by cluster."""
    sizes = np.abs(gains[gains != 0])
    total, observed = int(sizes.sum()), abs(int(gains.sum()))
    if observed == 0:
        return 1.0
    chances = np.zeros(2 * total + 1)
    chances[total] = 1.0
    for size in sizes.tolist():
        chances = (np.roll(chances, size) + np.roll(chances, -size)) / 2
    return min(1.0, 2 * float(chances[total + observed :].sum()))


def paired_difference(
    a_numerators: Values,
    a_denominators: Values,
    b_numerators: Values,
    b_denominators: Values,
    clusters: Sequence[Hashable],
    seed: int = 0,
    resamples: int = 2000,
    *,
    is_share: bool = True,
) -> Difference:
    """The ratio of b minus the ratio of a on the same items, with an interval from drawing whole clusters.

    Every draw takes the same images for both models, so what makes an image hard cancels. p-value: the share of all
    swaps of the two models, cluster by cluster, with a difference as large, where few clusters differ; else twice the
    share of draws on the other side of zero, counted so that it is never 0 (Davison & Hinkley 1997, §4.2). The interval
    from few clusters is Newcombe's (1998, method 10) from `ratio_interval` of each, which takes the models for
    independent: too wide rather than too narrow.
    """
    sums = _cluster_sums([a_numerators, a_denominators, b_numerators, b_denominators], clusters)
    differing = sums[(sums[:, :2] != sums[:, 2:]).any(axis=1)]
    value = float(_difference(sums.sum(axis=0, keepdims=True))[0])
    if len(differing) == 0:
        # nothing was seen in so many clusters
        most = wilson(0, int(np.count_nonzero(sums[:, 1]))).high
        most *= 1.0 if is_share else float(_ratio(*sums[:, :2].sum(axis=0, keepdims=True).T)[0])
        return Difference(value, -most, most, 1.0)
    drawn = _difference(_resampled_sums(sums, seed, resamples))
    low, high = (float(bound) for bound in np.quantile(drawn, [0.025, 0.975]))
    if len(differing) <= MOST_SWAPPED:
        p_value = _swapped_as_large(sums, differing)
    else:
        fewer = min(int((drawn <= 0).sum()), int((drawn >= 0).sum()))
        p_value = min(1.0, 2 * (fewer + 1) / (resamples + 1))
    if low == high or np.count_nonzero(sums[:, [1, 3]].any(axis=1)) < FEW:
        a, b = (
            ratio_interval(sums[:, i], sums[:, i + 1], range(len(sums)), seed, resamples, is_share=is_share)
            for i in (0, 2)
        )
        low = value - sqrt((b.value - b.low) ** 2 + (a.high - a.value) ** 2)
        high = value + sqrt((b.high - b.value) ** 2 + (a.value - a.low) ** 2)
    return Difference(value, low, high, p_value)


def _swapped_as_large(sums: np.ndarray, differing: np.ndarray) -> float:
    """The share of swaps of a and b in the clusters that differ whose difference is as far from 0 as the one seen."""
    swaps = np.array(list(product((0.0, 1.0), repeat=len(differing))))
    change = differing[:, [2, 3, 0, 1]] - differing
    found = np.abs(_difference(sums.sum(axis=0) + swaps @ change))
    # the first one swaps nothing; a hair for sums in another order
    return float((found >= found[0] * (1 - 1e-9)).mean())


def _difference(sums: np.ndarray) -> np.ndarray:
    """[rows]: the ratio of b minus that of a from rows of four sums."""
    return _ratio(sums[:, 2], sums[:, 3]) - _ratio(sums[:, 0], sums[:, 1])


def smallest_detectable_difference(total: int, discordant: int, design_effect: float = 1.0) -> float:
    """The smallest difference in accuracy that `total` items show at p < 0.05 in four of five such experiments.

    Connor's formula (1987) for McNemar's test: δ = (z₀.₉₇₅ √ψ + z₀.₈ √(ψ − δ²)) / √n with ψ the share of items on which
    the models differ; ψ is the observed share, and at least δ itself, since no difference comes without disagreement.
    n is `total` over the design effect.
    """
    if total == 0:
        return 1.0
    differing, difference = discordant / total, 1.0
    for _ in range(100):
        share = max(differing, difference)
        root = sqrt(total / design_effect)
        difference = min(1.0, (Z_95 * sqrt(share) + Z_80_POWER * sqrt(max(share - difference**2, 0.0))) / root)
    return difference


def design_effect(a_correct: Values, b_correct: Values, clusters: Sequence[Hashable]) -> float:
    """By how much the variance of a difference is larger than if items were independent, at least 1 (Kish 1965).

    Σ over clusters of squared gains / Σ over items of the same: the size of clusters where all items on an image flip
    together. Without any disagreement it is unknown, and taken to be items a cluster.
    """
    gains = np.asarray(b_correct, dtype=int) - np.asarray(a_correct, dtype=int)
    by_cluster = _cluster_sums([gains], clusters)[:, 0]
    if not gains.any():
        return max(1.0, len(gains) / max(1, len(by_cluster)))
    return max(1.0, float((by_cluster**2).sum() / (gains**2).sum()))


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
    """[resamples, clusters]: how often each cluster is drawn; one table serves every score of one set of images."""
    random = np.random.default_rng(seed)
    counts = np.zeros((resamples, num_clusters), dtype=np.uint16)
    for row in counts:
        row[:] = np.bincount(random.integers(num_clusters, size=num_clusters), minlength=num_clusters)
    return counts


def _ratio(numerator: np.ndarray, denominator: np.ndarray) -> np.ndarray:
    """Element-wise quotient; 0 where there is nothing to divide by (a draw without a single mention)."""
    return np.divide(numerator, denominator, out=np.zeros_like(numerator), where=denominator > 0)
