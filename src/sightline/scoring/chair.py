"""CHAIR (arXiv:1809.02156) and its companions Cover, Hal and Cog, as AMBER (arXiv:2311.07397) defines them.

Everything is counted from sets of objects: what a caption mentions, what is in the image, and what one would expect
there although it is not (companions: the hallucinations of cognition). How words become objects is somebody else's
business. Ratios are over the whole set, not averaged over captions, as in AMBER's official scorer.
"""

from collections.abc import Hashable, Iterable, Sequence
from typing import NamedTuple

from sightline.scoring.ratio import Ratio, Ratios, amount, rate


class Mentions(NamedTuple):
    """What one caption got right and wrong, in counts.

    mentioned: objects the caption names, every mention counted. hallucinated: those of them that are not there.
    present: objects in the image. covered: those of them that the caption names.
    companions: objects one would expect but that are absent. expected: those of them that the caption names.
    """

    mentioned: int
    hallucinated: int
    present: int
    covered: int
    companions: int
    expected: int


def count_mentions(
    mentioned: Sequence[Hashable], present: Iterable[Hashable], companions: Iterable[Hashable] = ()
) -> Mentions:
    """Compare what a caption names (repetitions count) with what is present and what companions are absent.

    A companion that is present is no companion. Repetitions in `present` and `companions` count once.
    """
    there = set(present)
    absent = set(companions) - there
    named = set(mentioned)
    return Mentions(
        mentioned=len(mentioned),
        hallucinated=sum(m not in there for m in mentioned),
        present=len(there),
        covered=len(named & there),
        companions=len(absent),
        expected=len(named & absent),
    )


def judge(counts: Mentions) -> Ratios:
    """One caption's part in chair, cover, hal and cog, and how many objects it names."""
    return {
        "chair": Ratio(counts.hallucinated, counts.mentioned),
        "cover": Ratio(counts.covered, counts.present),
        "hal": rate(counts.hallucinated > 0),
        "cog": Ratio(counts.expected, counts.companions),
        "mentions": amount(counts.mentioned),
    }
