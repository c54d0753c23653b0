"""CHAIR, Cover, Hal and Cog by hand."""

from sightline.scoring.chair import Mentions, count_mentions, judge
from sightline.scoring.ratio import total


def scores(counts: list[Mentions]) -> list[float]:
    judged = [judge(c) for c in counts]
    return [total(j[name] for j in judged) for name in ("chair", "cover", "hal", "cog")]


def test_counts_of_one_caption() -> None:
    counts = count_mentions(["dog", "dog", "cat", "tree"], present=["dog", "sky"], companions=["cat", "sun", "sky"])
    assert counts == Mentions(mentioned=4, hallucinated=2, present=2, covered=1, companions=2, expected=1)


def test_a_companion_that_is_there_is_neither_companion_nor_hallucination() -> None:
    counts = count_mentions(["sun"], present=["sun"], companions=["sun"])
    assert (counts.hallucinated, counts.companions, counts.expected) == (0, 0, 0)


def test_scores_are_ratios_of_sums_over_the_set() -> None:
    counts = [
        count_mentions(["a", "b"], present=["a", "b"], companions=["x"]),
        count_mentions(["a", "x", "y", "a"], present=["a", "c"], companions=["x", "z"]),
    ]
    assert scores(counts) == [2 / 6, 3 / 4, 1 / 2, 1 / 3]


def test_a_caption_that_says_nothing_hallucinates_nothing_and_covers_nothing() -> None:
    assert scores([count_mentions([], present=["a"], companions=["b"])]) == [0.0, 0.0, 0.0, 0.0]
