"""From a recipe's `objective` to a function of log-probs: a weighted sum of parts, each divided by its own count.

    loss = Σ_part weights[part] · Σ losses[part].value / Σ counts(groups)[part],   sums over the whole step

so that no cut of a step into forwards or processes changes it.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from sightline.config.objective import DPOConfig, ObjectiveConfig, SFTConfig
from sightline.objectives.dpo import dpo_loss
from sightline.objectives.metrics import Metrics, pair_metrics, reward_metrics, token_metrics
from sightline.objectives.pairs import PairScores, of_chosen, pair_scores
from sightline.objectives.part import Part, Sample
from sightline.objectives.rpo import rpo_term
from sightline.objectives.sft import sft_loss
from sightline.types import Group, LogProbs, Loss

State = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """What is optimised.

    num_responses: responses a row must have (2 for pairs, 1 for demonstrations); None for any number.
    whole_step: some part reads statistics of the step's batch, so the call must see the log-probs of the whole step of
        all processes at once, token by token.
    """

    parts: dict[str, Part]
    num_responses: int | None

    @property
    def weights(self) -> dict[str, float]:
        """What each part's loss is multiplied by."""
        return {name: part.weight for name, part in self.parts.items()}

    @property
    def needs_reference(self) -> bool:
        return any(part.needs_reference for part in self.parts.values())

    @property
    def needs_statistics(self) -> frozenset[str]:
        """Fields of `LogProbs` besides `logp` that the loss (not just its metrics) reads."""
        return frozenset().union(*(part.needs_statistics for part in self.parts.values()))

    @property
    def whole_step(self) -> bool:
        return any(part.whole_step for part in self.parts.values())

    def counts(self, groups: list[Group]) -> dict[str, int]:
        """What each part's summed loss is divided by; counts of micro-batches and processes add up."""
        return {name: sum(part.count(group) for group in groups) for name, part in self.parts.items()}

    def initial_state(self) -> State:
        """State before the first step, saved in checkpoints; empty for most objectives."""
        return {}

    def update_state(
        self, state: State, policy: LogProbs, reference: LogProbs | None, extra: dict[str, Tensor]
    ) -> State:
        """The state for a step's losses: called once a training step, before them, on its whole log-probs."""
        return state

    def __call__(
        self,
        policy: LogProbs,
        reference: LogProbs | None = None,
        extra: dict[str, Tensor] | None = None,
        state: State | None = None,
    ) -> dict[str, Loss]:
        """Each part's unweighted loss, summed over what `policy` covers.

        policy, reference: log-probs of the same batch; responses 2p and 2p + 1 are chosen and rejected of pair p.
        extra: columns by name (`label`: Bool[" responses"] for unpaired preferences). state: see `update_state`.
        """
        sample = Sample(policy=policy, reference=reference, extra=extra or {}, state=state or self.initial_state())
        losses: dict[str, Loss] = {}
        for name, part in self.parts.items():
            with torch.no_grad():
                metrics = {} if losses else part.metrics(sample)
            losses[name] = Loss(value=part.losses(sample).sum(), per=part.per, metrics=metrics)
        return losses


def build(config: ObjectiveConfig) -> Objective:
    """The objective of a recipe."""
    match config:
        case SFTConfig():
            return Objective(parts={"sft": sft_part(weight=1.0, chosen_only=False)}, num_responses=1)
        case DPOConfig():
            loss = partial(dpo_loss, beta=config.beta, label_smoothing=config.label_smoothing)
            parts = {"dpo": pair_part(loss, weight=1.0, beta=config.beta)}
            if config.rpo_alpha > 0:
                parts["rpo"] = rpo_part(weight=config.rpo_alpha)
            return Objective(parts=parts, num_responses=2)


def sft_part(*, weight: float, chosen_only: bool) -> Part:
    """Negative log-likelihood of a target token: of all responses, or of chosen ones in a mixture over pairs."""

    def demonstrated(policy: LogProbs) -> Tensor:
        return of_chosen(policy) if chosen_only else torch.ones_like(policy.weight, dtype=torch.bool)

    def losses(sample: Sample) -> Tensor:
        policy = sample.policy
        token_loss = sft_loss(policy.logp) * policy.weight
        return token_loss[demonstrated(policy)]

    def count(group: Group) -> int:
        weights = group.weights[0::2] if chosen_only else group.weights
        return sum(int((w > 0).sum()) for w in weights)

    def metrics(sample: Sample) -> Metrics:
        return token_metrics(sample.policy, demonstrated(sample.policy))

    return Part(weight=weight, per="tokens", losses=losses, count=count, metrics=metrics)


def pair_part(loss: Callable[..., Tensor], *, weight: float, beta: float) -> Part:
    """A loss of (chosen, rejected, ref_chosen, ref_rejected) log-probs, averaged over pairs."""

    def losses(sample: Sample) -> Tensor:
        scores = pair_scores(sample.policy, sample.reference)
        return loss(scores.chosen, scores.rejected, scores.ref_chosen, scores.ref_rejected)

    def metrics(sample: Sample) -> Metrics:
        scores = pair_scores(sample.policy, sample.reference)
        return rewards(scores, beta) | pair_metrics(sample.policy, scores) | _token_metrics_of_pairs(sample)

    return Part(weight=weight, per="pairs", losses=losses, count=num_pairs, metrics=metrics, needs_reference=True)


def rpo_part(*, weight: float) -> Part:
    """RPO's likelihood term on chosen responses, averaged over pairs."""

    def losses(sample: Sample) -> Tensor:
        scores = pair_scores(sample.policy, None)
        return rpo_term(scores.chosen, scores.chosen_length)

    return Part(weight=weight, per="pairs", losses=losses, count=num_pairs, metrics=_token_metrics_of_pairs)


def num_pairs(group: Group) -> int:
    """Pairs of a group: half its responses."""
    return len(group.responses) // 2


def rewards(scores: PairScores, beta: float) -> Metrics:
    """Implicit rewards β·log(π/π_ref) of chosen and rejected."""
    return reward_metrics(beta * (scores.chosen - scores.ref_chosen), beta * (scores.rejected - scores.ref_rejected))


def _token_metrics_of_pairs(sample: Sample) -> Metrics:
    return token_metrics(sample.policy, of_chosen(sample.policy))
