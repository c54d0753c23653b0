"""A part of an objective: a weight, losses of tokens, responses or pairs, and how many there are to divide by."""

from collections.abc import Callable
from dataclasses import dataclass, field

from jaxtyping import Bool
from torch import Tensor

from sightline.objectives.metrics import Metrics
from sightline.types import Columns, Denominator, Group, LogProbs

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Sample:
    """What a part reads.

    policy, reference: log-probs of the ordinary responses. desirable: which of them are chosen or labelled desirable.
    columns: what is known of all responses besides.
    auxiliary, ref_auxiliary: log-probs by role (`objectives.roles`). state: the part's own, carried over steps.
    """

    policy: LogProbs
    reference: LogProbs | None
    desirable: Bool[Tensor, " responses"]
    columns: Columns
    auxiliary: dict[int, LogProbs]
    ref_auxiliary: dict[int, LogProbs]
    state: State


@dataclass(frozen=True, kw_only=True)
class Part:
    """One term of a weighted sum.

    losses: the loss of each item (token, response, pair or group, as `per` says); the part is their mean over the step.
    count: how many items a group brings, known before any forward.
    metrics: what the part logs; in a mixture the first part that logs a name gives its value.
    initial_state, update_state: state carried over steps; `update_state` sees the whole step.
    full_batch: `losses` reads statistics of the batch, so it must see the whole step of all processes.
    roles: auxiliary responses that the step must hold.
    corrected_weight: what tokens weigh in which chosen and rejected response differ, where rows mark none (DDPO).
    """

    weight: float
    per: Denominator
    losses: Callable[[Sample], Tensor]
    count: Callable[[Group], int]
    metrics: Callable[[Sample], Metrics]
    initial_state: Callable[[], State] = dict
    update_state: Callable[[Sample], State] = lambda sample: sample.state
    needs_reference: bool = False
    full_batch: bool = False
    roles: frozenset[int] = field(default_factory=frozenset)
    corrected_weight: float = 1.0
