"""A part of an objective: a weight, losses of tokens, responses or pairs, and how many there are to divide by."""

from collections.abc import Callable
from dataclasses import dataclass, field

from torch import Tensor

from sightline.objectives.metrics import Metrics
from sightline.types import Denominator, Group, LogProbs


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a part reads: log-probs of policy and reference, columns, and the state carried over steps."""

    policy: LogProbs
    reference: LogProbs | None
    extra: dict[str, Tensor]
    state: dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Part:
    """One term of a weighted sum.

    losses: the loss of each item (token, response, pair or group, as `per` says); the part is their mean over the step.
    count: how many items a group brings, known before any forward.
    metrics: what the part logs; of a mixture only the first part's are logged.
    """

    weight: float
    per: Denominator
    losses: Callable[[Sample], Tensor]
    count: Callable[[Group], int]
    metrics: Callable[[Sample], Metrics]
    needs_reference: bool = False
    needs_statistics: frozenset[str] = field(default_factory=frozenset)
    whole_step: bool = False
