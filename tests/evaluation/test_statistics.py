"""Intervals and tests against values computed by hand, by scipy, or known from papers."""

import numpy as np
import pytest
from scipy import stats

from sightline.evaluation.statistics import (
    design_effect,
    mcnemar,
    paired_difference,
    ratio_interval,
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
    interval = ratio_interval(2 * right, np.full(1500, 2), range(1500), seed=1)
    half = 1.96 * np.sqrt(right.mean() * (1 - right.mean()) / 1500)
    assert interval.value == pytest.approx(right.mean())
    assert (interval.high - interval.low) / 2 == pytest.approx(half, rel=0.1)


def test_ten_copies_of_every_item_in_one_cluster_say_no_more_than_one() -> None:
    right = (np.random.default_rng(0).random(100) < 0.5).astype(float)
    once = ratio_interval(10 * right, np.full(100, 10.0), range(100), seed=1)
    copies = ratio_interval(np.repeat(right, 10), np.ones(1000), np.repeat(np.arange(100), 10).tolist(), seed=1)
    assert copies == pytest.approx(once)


def test_bootstrap_weighs_clusters_by_their_denominators() -> None:
    # 1 of 1 and 0 of 3: the ratio of sums is 1/4, the mean of ratios would be 1/2
    assert ratio_interval([1, 0], [1, 3], ["a", "b"], seed=0).value == 0.25


def test_a_ratio_of_one_is_not_certain() -> None:
    interval = ratio_interval([3] * 50, [3] * 50, range(50), seed=0)
    assert interval.value == interval.high == 1.0
    assert interval.low == wilson(50, 50).low


def test_rates_of_several_items_a_image_are_as_unsure_as_their_images() -> None:
    together = np.random.default_rng(4).random(30) < 0.4
    found = ratio_interval(np.repeat(together, 5), np.ones(150), np.repeat(np.arange(30), 5).tolist())
    apart = wilson(int(together.sum()), 30)
    assert found.value == pytest.approx(apart.value)
    assert found.high - found.low == pytest.approx(apart.high - apart.low, rel=0.15)


@pytest.mark.parametrize("num_clusters", [1, 2, 3, 5, 9])
def test_few_clusters_have_wide_intervals_of_shares(num_clusters: int) -> None:
    hallucinated, mentioned = [1] * num_clusters, [4] * num_clusters
    found = ratio_interval(hallucinated, mentioned, range(num_clusters))
    assert found == wilson(0.25 * num_clusters, num_clusters)
    assert found.high - found.low > 0.45


def test_clusters_that_all_agree_do_not_make_certain() -> None:
    assert ratio_interval([1] * 40, [4] * 40, range(40)) == wilson(10, 40)


def test_few_amounts_have_student_s_interval() -> None:
    words = [4.0, 6.0, 11.0]
    expected = stats.t.interval(0.95, 2, loc=7, scale=np.std(words, ddof=1) / np.sqrt(3))
    found = ratio_interval(words, [1] * 3, range(3), is_share=False)
    assert (found.low, found.high) == pytest.approx((max(0, expected[0]), expected[1]), abs=1e-2)
    alone = ratio_interval([5], [1], ["a"], is_share=False)
    assert alone.value == 5 and alone.low == 0 and alone.high > 10
    assert ratio_interval([0, 0], [1, 1], "ab", is_share=False).high > 0


@pytest.mark.parametrize("num_clusters", [1, 2, 4, 6, 8, 12, 14])
def test_a_difference_on_n_images_gives_no_p_below_that_of_a_sign_test(num_clusters: int) -> None:
    ones = [1] * num_clusters
    found = paired_difference(ones, [2] * num_clusters, [2] * num_clusters, [3] * num_clusters, range(num_clusters))
    assert found.value == pytest.approx(1 / 6)
    assert found.p_value >= 2 * 0.5**num_clusters - 1e-12
    assert found.low < found.value < found.high


def test_a_few_differing_images_are_swapped_one_by_one() -> None:
    # gains of 3, 1 and −1 among 40 images: of eight swaps |±3 ±1 ±1| ≥ 3 holds for six
    a, b = [0.0] * 40, [0.0] * 40
    a[2], b[0], b[1] = 1.0, 3.0, 1.0
    found = paired_difference(a, [5] * 40, b, [5] * 40, range(40))
    assert found.value == pytest.approx(3 / 200)
    assert found.p_value == 6 / 8


def test_mcnemar_over_images_by_hand() -> None:
    # all five questions of two images flip for the better, one question of a third for the worse
    a = [0] * 10 + [1] + [0] * 9
    b = [1] * 10 + [0] + [0] * 9
    found = mcnemar(a, b, np.repeat([0, 1, 2, 3], 5).tolist())
    # |±5 ±5 ±1| ≥ 9: +5+5±1 and −5−5±1, four of eight
    assert found == (1, 10, 0.5)
    assert mcnemar(a, b, range(20)).p_value == pytest.approx(stats.binomtest(1, 11).pvalue)


def test_mcnemar_over_images_agrees_with_all_swaps() -> None:
    random = np.random.default_rng(5)
    images = random.integers(0, 9, 60)
    a, b = random.random(60) < 0.5, random.random(60) < 0.6
    gains = np.bincount(images, weights=b.astype(float) - a, minlength=9)
    swaps = np.array(np.meshgrid(*[[-1, 1]] * 9)).reshape(9, -1).T
    expected = (np.abs(swaps @ gains) >= abs(gains.sum()) - 1e-9).mean()
    assert mcnemar(a, b, images.tolist()).p_value == pytest.approx(min(1.0, expected))


def test_the_design_effect_is_the_size_of_images_whose_questions_flip_together() -> None:
    images = np.repeat(np.arange(10), 7).tolist()
    a = np.zeros(70)
    assert design_effect(a, np.repeat([1, 1, 1] + [0] * 7, 7), images) == 7
    assert design_effect(a, [1.0 if i % 7 == 0 else 0.0 for i in range(70)], images) == 1
    assert design_effect(a, a, images) == 7
    assert smallest_detectable_difference(700, 70, 7.0) == smallest_detectable_difference(100, 10)


def test_intervals_cover_the_truth_about_as_often_as_they_claim() -> None:
    random = np.random.default_rng(6)
    for num_clusters in (4, 12, 60):
        held = 0
        for seed in range(300):
            # a beta of mean 0.7 an image, five questions each: intra-class correlation 0.5
            chances = random.beta(0.7, 0.3, num_clusters)
            right = random.random((num_clusters, 5)) < chances[:, None]
            clusters = np.repeat(np.arange(num_clusters), 5).tolist()
            found = ratio_interval(right.ravel(), np.ones(right.size), clusters, seed=seed, resamples=400)
            held += found.low <= 0.7 <= found.high
        assert held / 300 > 0.88, (num_clusters, held)


def test_bootstrap_is_repeatable_and_depends_on_its_seed() -> None:
    named, present = [i % 3 for i in range(40)], [2 + i % 5 for i in range(40)]
    first, again, other = (ratio_interval(named, present, range(40), seed=s) for s in (1, 1, 2))
    assert first == again
    assert first != other


def test_bootstrap_refuses_columns_of_different_lengths() -> None:
    with pytest.raises(ValueError, match="got 3 values and 2 clusters"):
        ratio_interval([1, 1, 1], [1, 1, 1], ["a", "b"], seed=0)


@pytest.mark.parametrize(("only_a", "only_b"), [(0, 0), (1, 5), (5, 1), (7, 7), (30, 60), (1200, 1500)])
def test_mcnemar_agrees_with_the_binomial_test(only_a: int, only_b: int) -> None:
    a = [True] * only_a + [False] * only_b + [True, False]
    b = [False] * only_a + [True] * only_b + [True, False]
    result = mcnemar(a, b, range(len(a)))
    expected = stats.binomtest(only_a, only_a + only_b).pvalue if only_a + only_b else 1.0
    assert (result.only_a, result.only_b) == (only_a, only_b)
    assert result.p_value == pytest.approx(expected, rel=1e-9)


def test_mcnemar_by_hand() -> None:
    # one against five of six: 2 · (1 + 6) / 64
    assert mcnemar([1, 0, 0, 0, 0, 0], [0, 1, 1, 1, 1, 1], range(6)).p_value == 14 / 64


def test_mcnemar_refuses_different_items() -> None:
    with pytest.raises(ValueError, match="got 2 and 1"):
        mcnemar([True, False], [True], [0, 1])


def test_paired_bootstrap_finds_a_difference_that_unpaired_intervals_hide() -> None:
    random = np.random.default_rng(3)
    easy = random.random(400) < 0.5
    better = easy | (random.random(400) < 0.05)
    ones = np.ones(400)
    difference = paired_difference(easy, ones, better, ones, range(400), seed=0)
    apart = [ratio_interval(x, ones, range(400), seed=0) for x in (easy, better)]
    assert difference.value == pytest.approx(better.mean() - easy.mean())
    assert difference.low > 0
    assert difference.p_value < 0.01
    assert apart[0].high > apart[1].low


def test_paired_bootstrap_of_a_model_with_itself_is_no_difference() -> None:
    right = [i % 2 for i in range(50)]
    difference = paired_difference(right, [1] * 50, right, [1] * 50, range(50), seed=0)
    assert (difference.value, difference.p_value) == (0.0, 1.0)
    # none of fifty images differed: Wilson's bound for 0 of 50
    assert -difference.low == difference.high == wilson(0, 50).high


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
