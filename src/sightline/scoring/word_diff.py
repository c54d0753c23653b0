"""Which words two texts have in common, aligned in order; in bounded time for texts of any length."""

from collections import Counter
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import NamedTuple

MOST_PAIRS = 1_000_000
"""Pairs of words that are compared to align two texts: some tenths of a second."""


class Common(NamedTuple):
    """Of each word of two texts, whether the other has it too; both have equally many such words."""

    ours: list[bool]
    theirs: list[bool]


def common_words(ours: Sequence[str], theirs: Sequence[str]) -> Common:
    """Common words of two lists: what both begin and end with, and between it the longest blocks.

    Where aligning those would compare more than `MOST_PAIRS` pairs, a word is common as often as the other side has
    it, which takes time in proportion to the texts.
    """
    start = _num_equal(ours, theirs)
    end = _num_equal(ours[start:][::-1], theirs[start:][::-1])
    middle = _between(ours[start : len(ours) - end], theirs[start : len(theirs) - end])
    return Common(*([True] * start + side + [True] * end for side in middle))


def _num_equal(ours: Sequence[str], theirs: Sequence[str]) -> int:
    """How many words two lists have in common before the first that differ."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _between(ours: Sequence[str], theirs: Sequence[str]) -> Common:
    if len(ours) * len(theirs) > MOST_PAIRS:
        return Common(_as_often(ours, theirs), _as_often(theirs, ours))
    found = Common([False] * len(ours), [False] * len(theirs))
    for block in SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        found.ours[block.a : block.a + block.size] = [True] * block.size
        found.theirs[block.b : block.b + block.size] = [True] * block.size
    return found


def _as_often(ours: Sequence[str], theirs: Sequence[str]) -> list[bool]:
    left = Counter(theirs)
    found = []
    for word in ours:
        found.append(left[word] > 0)
        left[word] -= 1
    return found
