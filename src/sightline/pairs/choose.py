"""From judged completions to pairs, everything that was left out counted."""

import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from sightline.config.pairs import JudgedPairsConfig, PairMakingConfig, length_tolerance_of
from sightline.config.refusal import default
from sightline.pairs.completions import Completion
from sightline.scoring.pair_choice import balanced, choose_pairs


@dataclass(frozen=True, kw_only=True)
class Judged:
    """A completion and what rewards made of it; no judge leaves values empty and score NaN.

    values: of each reward by name, None where it does not apply. logged: what rewards logged of it, such as its claims.
    """

    completion: Completion
    score: float = math.nan
    values: dict[str, float | None] = field(default_factory=dict)
    logged: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class Pair:
    """A pair of completions to one prompt. index: of its row. margin: 0 where no judge looked.

    reason: the reward that makes most of the difference, or the way the rejected side was made.
    longer: tokens by which the chosen side is the longer one.
    """

    index: int
    chosen: Judged
    rejected: Judged
    margin: float
    reason: str

    @property
    def longer(self) -> int:
        return self.chosen.completion.num_tokens - self.rejected.completion.num_tokens


@dataclass(kw_only=True)
class Counts:
    """What became of prompts and completions.

    Of completions: truncated ones, and those that no row can hold (empty, a NUL, a token of the chat template). Of
    prompts: bad rows, or no pair and why. Of pairs: those that lengths were balanced by.
    """

    prompts: int = 0
    bad_rows: int = 0
    completions: int = 0
    duplicates: int = 0
    truncated: int = 0
    unwritable: int = 0
    not_judged: int = 0
    one_completion: int = 0
    ties: int = 0
    below_margin: int = 0
    no_worse_side: int = 0
    left_out_for_length: int = 0
    pairs: int = 0

    def as_json(self) -> dict[str, int]:
        """By name."""
        return asdict(self)


def pairs_of_prompt(
    index: int,
    judged: Sequence[Judged],
    config: PairMakingConfig,
    weights: dict[str, float],
    counts: Counts,
    *,
    is_writable: Callable[[str], bool],
) -> list[Pair]:
    """The pairs of one prompt's completions; what gives none is counted.

    judged: its distinct completions. weights: of the rewards, by name. is_writable: whether a row can hold a text.
    """
    counts.completions += sum(one.completion.times for one in judged)
    counts.duplicates += sum(one.completion.times - 1 for one in judged)
    whole = [one for one in judged if one.completion.finished or config.keep_truncated]
    counts.truncated += len(judged) - len(whole)
    writable = [one for one in whole if is_writable(one.completion.text)]
    counts.unwritable += len(whole) - len(writable)
    whole = [one for one in writable if one.completion.rejected is None or is_writable(one.completion.rejected)]
    counts.unwritable += len(writable) - len(whole)
    if not isinstance(config, JudgedPairsConfig):
        return _made(index, whole, config, counts)
    scores = [one.score for one in whole]
    counts.not_judged += sum(map(math.isnan, scores))
    chosen = choose_pairs(scores, margin=config.margin, max_pairs=config.max_pairs)
    known = [score for score in scores if not math.isnan(score)]
    if not chosen and len(known) < 2:
        counts.one_completion += 1
    elif not chosen and max(known) == min(known):
        counts.ties += 1
    elif not chosen:
        counts.below_margin += 1
    return [
        Pair(
            index=index,
            chosen=whole[one.chosen],
            rejected=whole[one.rejected],
            margin=one.margin,
            reason=_reason(whole[one.chosen], whole[one.rejected], weights),
        )
        for one in chosen
    ]


def _made(index: int, whole: Sequence[Judged], config: PairMakingConfig, counts: Counts) -> list[Pair]:
    """Completions against the worse sides that were made of them."""
    found = []
    for one in whole:
        text = one.completion.rejected
        if text and text != one.completion.text and len(found) < config.max_pairs:
            length = one.completion.rejected_tokens
            worse = Completion(text=text, ids=[0] * length, finished=True, times=1)
            reason = default(type(config), "type")
            found.append(Pair(index=index, chosen=one, rejected=Judged(completion=worse), margin=0.0, reason=reason))
    counts.no_worse_side += not found
    return found


def _reason(chosen: Judged, rejected: Judged, weights: dict[str, float]) -> str:
    def difference(name: str) -> float:
        above, below = chosen.values.get(name), rejected.values.get(name)
        return weights[name] * ((above or 0.0) - (below or 0.0))

    return max(weights, key=difference)


def balance_lengths(pairs: Sequence[Pair], config: PairMakingConfig, counts: Counts) -> list[Pair]:
    """The pairs that leave both sides the longer one about as often; those that go are counted."""
    tolerance = length_tolerance_of(config)
    kept = list(pairs)
    if tolerance is not None:
        numbers = balanced([one.longer for one in pairs], [one.margin for one in pairs], tolerance)
        kept = [pairs[number] for number in numbers]
    counts.left_out_for_length, counts.pairs = len(pairs) - len(kept), len(kept)
    return kept


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a set of pairs is like.

    score: mean of all judged completions, each as often as it was sampled. margins: smallest, mean, largest.
    longer_chosen: share of pairs whose chosen side is the longer one, of those that differ in length, before balancing
    and after. tokens: mean of both sides. reasons: share of the pairs by reason.
    """

    counts: Counts
    score: float | None
    margins: tuple[float, float, float] | None
    longer_chosen_before: float | None
    longer_chosen: float | None
    tokens: tuple[float, float] | None
    reasons: dict[str, float]

    def as_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "counts": self.counts.as_json()}


def summary_of(judged: Iterable[Judged], before: Sequence[Pair], pairs: Sequence[Pair], counts: Counts) -> Summary:
    """Figures of the pairs. judged: all completions. before: the pairs that lengths were balanced of."""
    known = [one for one in judged if not math.isnan(one.score)]
    times = sum(one.completion.times for one in known)
    margins = [one.margin for one in pairs]
    reasons = Counter(one.reason for one in pairs)
    tokens = None
    if pairs:
        sides = [[getattr(one, side).completion.num_tokens for one in pairs] for side in ("chosen", "rejected")]
        tokens = (sum(sides[0]) / len(pairs), sum(sides[1]) / len(pairs))
    return Summary(
        counts=counts,
        score=sum(one.score * one.completion.times for one in known) / times if times else None,
        margins=(min(margins), sum(margins) / len(margins), max(margins)) if margins else None,
        longer_chosen_before=_share_longer(before),
        longer_chosen=_share_longer(pairs),
        tokens=tokens,
        reasons={name: number / len(pairs) for name, number in reasons.most_common()},
    )


def _share_longer(pairs: Sequence[Pair]) -> float | None:
    differing = [one.longer for one in pairs if one.longer]
    return sum(one > 0 for one in differing) / len(differing) if differing else None
