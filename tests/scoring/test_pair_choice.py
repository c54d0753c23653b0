"""Pairs of scored completions: which, and which of them stay when lengths are balanced."""

import math

from sightline.scoring.pair_choice import balanced, choose_pairs

NAN = math.nan


def test_the_best_meets_the_worst_and_the_next_best_the_next_worst():
    scores = [0.2, 0.9, 0.5, 0.1, 0.6]
    assert [(p.chosen, p.rejected) for p in choose_pairs(scores, max_pairs=5)] == [(1, 3), (4, 0)]
    assert choose_pairs(scores)[0].margin == 0.9 - 0.1


def test_ties_and_small_margins_are_no_pairs():
    assert choose_pairs([0.5, 0.5, 0.5], max_pairs=3) == []
    assert choose_pairs([1.0, 0.7], margin=0.4) == []
    assert [(p.chosen, p.rejected) for p in choose_pairs([1.0, 0.75, 0.5, 0.5], margin=0.5, max_pairs=4)] == [(0, 2)]


def test_what_nobody_judged_is_in_no_pair():
    assert [(p.chosen, p.rejected) for p in choose_pairs([NAN, 0.3, NAN, 0.4])] == [(3, 1)]
    assert choose_pairs([NAN, 0.3]) == [] == choose_pairs([])


def test_each_completion_is_in_one_pair_at_most():
    pairs = choose_pairs([0.0, 1.0, 1.0, 2.0], max_pairs=9)
    used = [number for pair in pairs for number in pair[:2]]
    assert sorted(used) == sorted(set(used)) and (pairs[0].chosen, pairs[0].rejected) == (3, 0)


def test_the_smallest_margins_of_the_larger_kind_go():
    longer, margins = [5, 3, 1, -2, 0], [0.1, 0.4, 0.9, 0.2, 0.1]
    assert balanced(longer, margins, 0.0) == [2, 3, 4]
    # one more than the other kind: |2 − 1| ≤ t · 3
    assert balanced(longer, margins, 1 / 3) == [1, 2, 3, 4]
    assert balanced(longer, margins, 0.3) == [2, 3, 4]


def test_what_is_balanced_stays_whole_and_one_kind_alone_goes():
    assert balanced([1, -1, 2, -2], [1.0] * 4, 0.0) == [0, 1, 2, 3]
    assert balanced([1, 1, 1], [1.0] * 3, 0.1) == []
    for few in range(1, 30):
        longer = [1] * 60 + [-1] * few
        kept = balanced(longer, [1.0] * len(longer), 0.1)
        many = len(kept) - few
        assert many - few <= 0.1 * (many + few) + 1e-9 and many + 1 - few > 0.1 * (many + 1 + few)
