"""Intervals and tests against values computed by hand, by scipy, or known from papers."""

import numpy as np
import pytest
from scipy import stats

from sightline.evaluation.statistics import (
    clustered_bootstrap,
    mcnemar_exact,
    paired_bootstrap,
    smallest_detectable_difference,
)
from sightline.scoring.interval import Interval, wilson


@pytest.mark.parametrize(("successes", "total"), [(0, 10), (1, 10), (5, 10), (463, 1000), (9425, 14216), (1000, 1000)])
def test_wilson_agrees_with_scipy(successes: int, total: int) -> None:
    expected = stats.binomtest(successes, total).proportion_ci(0.95, method="wilson")
    interval = wilson(successes, total)
    assert interval.value == successes / total
    assert interval.low == pytest.approx(expected.low, abs=1e-12)
    assert interval.high == pytest.approx(expected.high, abs=1e-12)


def test_wilson_of_no_items_is_everything() -> None:
    assert wilson(0, 0) == Interval(0.0, 0.0, 1.0)


def test_percent_multiplies_all_three() -> None:
    assert Interval(0.5, 0.25, 0.75).percent() == (50.0, 25.0, 75.0)


def test_bootstrap_of_independent_items_is_as_wide_as_the_normal_interval() -> None:
    right = np.random.default_rng(0).random(1500) < 0.3
    interval = clustered_bootstrap(right, np.ones(1500), range(1500), seed=1)
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 1500)
    assert interval.value == pytest.approx(right.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)


def test_ten_copies_of_every_item_in_one_cluster_say_no_more_than_one() -> None:
    right = (np.random.default_rng(0).random(100) < 0.5).astype(float)
    once = clustered_bootstrap(right, np.ones(100), range(100), seed=1)
    copies = clustered_bootstrap(np.repeat(right, 10), np.ones(1000), np.repeat(np.arange(100), 10).tolist(), seed=1)
    assert copies == pytest.approx(once)


def test_bootstrap_weighs_clusters_by_their_denominators() -> None:
    # 1 of 1 and 0 of 3: the ratio of sums is 1/4, the mean of ratios would be 1/2
    assert clustered_bootstrap([1, 0], [1, 3], ["a", "b"], seed=0).value == 0.25


def test_a_ratio_of_one_is_not_certain() -> None:
    interval = clustered_bootstrap([3] * 50, [3] * 50, range(50), seed=0)
    assert interval.value == interval.high == 1.0
    assert interval.low == wilson(50, 50).low


def test_bootstrap_is_repeatable_and_depends_on_its_seed() -> None:
    named, present = [i % 3 for i in range(40)], [2 + i % 5 for i in range(40)]
    first, again, other = (clustered_bootstrap(named, present, range(40), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_bootstrap_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="got 3 values and 2 clusters"):
        clustered_bootstrap([1, 1, 1], [1, 1, 1], ["a", "b"], seed=0)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 5), (5, 1), (7, 7), (30, 60), (1200, 1500)])
def test_mcnemar_agrees_with_the_binomial_test(only_a: int, only_b: int) -> None:
    a = [True] * only_a + [False] * only_b + [True, False]
    b = [False] * only_a + [True] * only_b + [True, False]
    result = mcnemar_exact(a, b)
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    # one against five of six: 2 · (1 + 6) / 64
    assert mcnemar_exact([1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1]).p_value == 14 / 64


def test_mcnemar_refuses_different_items() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        mcnemar_exact([True, False], [True])


def test_paired_bootstrap_finds_a_difference_that_unpaired_intervals_hide() -> None:
    random = np.random.default_rng(3)
    easy = random.random(400) < 0.5
    better = easy | (random.random(400) < 0.05)
    ones = np.ones(400)
    difference = paired_bootstrap(easy, ones, better, ones, range(400), seed=0)
    apart = [clustered_bootstrap(x, ones, range(400), seed=0) for x in (easy, better)]
    assert difference.value == pytest.approx(better.mean() - easy.mean())
    assert difference.low > 0
    assert difference.p_value < 0.01
    assert apart[0].high > apart[1].low


def test_paired_bootstrap_of_a_model_with_itself_is_no_difference() -> None:
    right = [i % 2 for i in range(50)]
    difference = paired_bootstrap(right, [1] * 50, right, [1] * 50, range(50), seed=0)
    assert difference == (0.0, 0.0, 0.0, 1.0)


def test_smallest_difference_of_amber_is_about_half_a_point() -> None:
    # 14,216 questions, models that differ on 5% of them: Connor's formula by hand gives 0.00526
    assert smallest_detectable_difference(14216, 711) == pytest.approx(0.00525, abs=2e-5)


def test_smallest_difference_has_the_power_it_claims() -> None:
    total, discordant = 1000, 100
    difference = smallest_detectable_difference(total, discordant)
    random = np.random.default_rng(0)
    only_b = (discordant / total + difference) / 2
    found = 0
    for _ in range(300):
        split = random.multinomial(total, [only_b, discordant / total - only_b, 1 - discordant / total])
        found += stats.binomtest(int(split[0]), int(split[0] + split[1])).pvalue < 0.05
    assert 0.7 < found / 300 < 0.88


def test_without_disagreement_it_takes_several_items_to_show_anything() -> None:
    assert 6 / 1000 < smallest_detectable_difference(1000, 0) < 10 / 1000
    assert smallest_detectable_difference(0, 0) == 1.0
