"""Which scored completions become preference pairs, and which pairs stay so that length says nothing of preference.

RLAIF-V (arXiv:2405.17220, §3.3) pairs completions of different score and then balances which side is longer: a judge
that likes length, or one that finds fewer mistakes in less text, would otherwise teach length itself.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple


class Choice(NamedTuple):
    """A pair by its completions' numbers, and how far apart their scores are."""

    chosen: int
    rejected: int
    margin: float


def choose_pairs(scores: Sequence[float], *, margin: float = 0.0, max_pairs: int = 1) -> list[Choice]:
    """The best against the worst, the second best against the second worst, and so on.

    scores: of one prompt's completions; NaN is not judged and in no pair. margin: least difference; equal scores are
    never a pair. Of equal scores the earlier completion is taken. Each completion is in one pair at most.
    """
    judged = [i for i, score in enumerate(scores) if not math.isnan(score)]
    best, worst = sorted(judged, key=lambda i: -scores[i]), sorted(judged, key=lambda i: scores[i])
    found: list[Choice] = []
    for high, low in zip(best, worst, strict=True):
        difference = scores[high] - scores[low]
        if len(found) == max_pairs or difference <= 0 or difference < margin:
            break
        found.append(Choice(high, low, difference))
    return found


def balanced(longer: Sequence[int], margins: Sequence[float], tolerance: float) -> list[int]:
    """The numbers of the pairs to keep, in order, so that neither side is the longer one much more often.

    longer: by how much the chosen side is longer than the rejected one, in any unit, negative where it is shorter.
    margins: of the pairs; the smallest of the larger kind go first, the last of equal ones. tolerance: how far the two
    kinds may differ in number, as a share of both, in [0, 1). Pairs of equal length stay.
    """
    kinds = {sign: [i for i, one in enumerate(longer) if one * sign > 0] for sign in (1, -1)}
    few, many = sorted(kinds.values(), key=len)
    # k − f ≤ t·(k + f), solved for k; a millionth for 1.1 / 0.9 · 9 being 10.999…
    room = math.floor(len(few) * (1 + tolerance) / (1 - tolerance) + 1e-6)
    kept = sorted(many, key=lambda i: (-margins[i], i))[: max(room, len(few))]
    dropped = set(many) - set(kept)
    return [i for i in range(len(longer)) if i not in dropped]
