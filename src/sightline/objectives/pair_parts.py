"""Losses of pairs as parts: which function each config means, and the modifiers around it."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor

from sightline.config.custom import CustomPairConfig
from sightline.config.other_objectives import CPOConfig, ORPOConfig, SimPOConfig
from sightline.config.pair_objectives import (
    AOTConfig,
    AOTUnpairedConfig,
    APODownConfig,
    APOZeroConfig,
    BCOPairConfig,
    DDPOConfig,
    DiscoPOPConfig,
    DPOConfig,
    DPOPConfig,
    EXOConfig,
    HingeConfig,
    IPOConfig,
    MarginConfig,
    NCAConfig,
    PairConfig,
    RobustConfig,
    SigmoidNormConfig,
    SPPOConfig,
)
from sightline.objectives.aot import aot_loss, aot_unpaired_loss
from sightline.objectives.apo import apo_down_loss, apo_zero_loss
from sightline.objectives.bco import RunningRewards, bco_pair_loss
from sightline.objectives.cpo import cpo_loss
from sightline.objectives.custom import custom_loss
from sightline.objectives.ddpo import segment_weighted_mean
from sightline.objectives.discopop import discopop_loss
from sightline.objectives.divergence import Divergence, build_divergence
from sightline.objectives.dpo import dpo_loss
from sightline.objectives.dpop import dpop_loss
from sightline.objectives.exo import exo_pair_loss
from sightline.objectives.hinge import hinge_loss
from sightline.objectives.ipo import ipo_loss
from sightline.objectives.ld_dpo import length_desensitised
from sightline.objectives.metrics import Metrics, pair_metrics, reward_metrics, token_metrics
from sightline.objectives.nca import nca_pair_loss
from sightline.objectives.orpo import orpo_loss
from sightline.objectives.pairs import PairScores, length_normalised, num_pairs, of_chosen, pair_scores, scores_of
from sightline.objectives.part import Part, Sample, State
from sightline.objectives.robust import robust_loss
from sightline.objectives.rpo import rpo_term
from sightline.objectives.sigmoid_norm import sigmoid_norm_loss
from sightline.objectives.simpo import simpo_loss
from sightline.objectives.sppo import sppo_hard_loss
from sightline.objectives.wpo import wpo_weights

PairLoss = Callable[[Any, PairScores], Float[Tensor, " pairs"]]


def _divergence(config: MarginConfig) -> Divergence:
    return build_divergence(config.divergence, 0.5 if config.divergence_alpha is None else config.divergence_alpha)


def _margin(config: MarginConfig) -> dict[str, Any]:
    return {"beta": config.beta, "divergence": _divergence(config)}


def _smoothed(config: Any) -> dict[str, Any]:
    return {"beta": config.beta, "label_smoothing": config.label_smoothing}


PAIR_LOSSES: dict[type, PairLoss] = {
    DPOConfig: lambda c, s: dpo_loss(*s.four, **_margin(c), label_smoothing=c.label_smoothing),
    RobustConfig: lambda c, s: robust_loss(*s.four, **_margin(c), label_smoothing=c.label_smoothing),
    HingeConfig: lambda c, s: hinge_loss(*s.four, **_margin(c)),
    IPOConfig: lambda c, s: ipo_loss(*s.four, *s.lengths, **_margin(c)),
    EXOConfig: lambda c, s: exo_pair_loss(*s.four, **_margin(c), label_smoothing=c.label_smoothing),
    NCAConfig: lambda c, s: nca_pair_loss(*s.four, beta=c.beta),
    BCOPairConfig: lambda c, s: bco_pair_loss(*s.four, beta=c.beta),
    SPPOConfig: lambda c, s: sppo_hard_loss(*s.four, beta=c.beta),
    AOTConfig: lambda c, s: aot_loss(*s.four, **_smoothed(c)),
    AOTUnpairedConfig: lambda c, s: aot_unpaired_loss(*s.four, **_smoothed(c)),
    APOZeroConfig: lambda c, s: apo_zero_loss(*s.four, beta=c.beta),
    APODownConfig: lambda c, s: apo_down_loss(*s.four, beta=c.beta),
    DiscoPOPConfig: lambda c, s: discopop_loss(*s.four, **_margin(c), tau=c.tau),
    SigmoidNormConfig: lambda c, s: sigmoid_norm_loss(*s.four, *s.lengths, **_margin(c)),
    DPOPConfig: lambda c, s: dpop_loss(*s.four, beta=c.beta, penalty=c.penalty),
    DDPOConfig: lambda c, s: dpo_loss(*s.four, **_margin(c)),
    SimPOConfig: lambda c, s: simpo_loss(s.chosen, s.rejected, *s.lengths, **_smoothed(c), gamma=c.gamma),
    ORPOConfig: lambda c, s: orpo_loss(s.chosen, s.rejected, *s.lengths),
    CPOConfig: lambda c, s: cpo_loss(s.chosen, s.rejected, **_smoothed(c)),
}


def pair_part(config: PairConfig | SimPOConfig | ORPOConfig | CPOConfig, *, weight: float) -> Part:
    """The loss of a config, averaged over pairs, with its modifiers."""
    loss = _custom(config) if isinstance(config, CustomPairConfig) else PAIR_LOSSES[type(config)]

    def losses(sample: Sample) -> Tensor:
        return _weigh(config, sample, loss(config, modified_scores(config, sample)))

    return Part(
        weight=weight,
        per="pairs",
        losses=losses,
        count=num_pairs,
        metrics=lambda sample: _metrics(config, sample),
        needs_reference=config.needs_reference,
        full_batch=isinstance(config, AOTConfig | AOTUnpairedConfig),
        corrected_weight=config.corrected_weight if isinstance(config, DDPOConfig) else 1.0,
    )


def _custom(config: CustomPairConfig) -> PairLoss:
    """The user's own loss over pairs."""
    loss = custom_loss(config)
    return lambda c, s: loss(s.chosen, **vars(s), beta=c.beta)


def shifted_bco_pair_part(config: BCOPairConfig, *, weight: float) -> Part:
    """`bco_pair` with the running reward shift δ as state."""

    def running(sample: Sample) -> RunningRewards:
        return RunningRewards(**sample.state)

    def losses(sample: Sample) -> Tensor:
        scores = modified_scores(config, sample)
        shift = running(sample).shift.to(scores.chosen)
        return _weigh(config, sample, bco_pair_loss(*scores.four, beta=config.beta, shift=shift))

    def update_state(sample: Sample) -> State:
        scores = modified_scores(config, sample)
        chosen_reward = config.beta * (scores.chosen - scores.ref_chosen)
        rejected_reward = config.beta * (scores.rejected - scores.ref_rejected)
        return running(sample).add(chosen_reward, rejected_reward)._asdict()

    def metrics(sample: Sample) -> Metrics:
        shift = running(sample).shift
        return {**_metrics(config, sample), "rewards/shift": (shift, shift.new_ones(()))}

    return replace(
        pair_part(config, weight=weight),
        losses=losses,
        metrics=metrics,
        initial_state=lambda: RunningRewards.empty()._asdict(),
        update_state=update_state,
        full_batch=True,
    )


def rpo_part(*, weight: float) -> Part:
    """RPO's likelihood term on chosen responses, averaged over pairs."""

    def losses(sample: Sample) -> Tensor:
        scores = pair_scores(sample.policy, None)
        return rpo_term(scores.chosen, scores.chosen_length)

    return Part(weight=weight, per="pairs", losses=losses, count=num_pairs, metrics=token_metrics_of_pairs)


def modified_scores(config: Any, sample: Sample) -> PairScores:
    """Each pair's log-probs as the config's modifiers have them."""
    policy, reference = sample.policy, sample.reference if config.needs_reference else None
    if isinstance(config, PairConfig) and config.ld_alpha < 1:
        desensitised = length_desensitised(policy, alpha=config.ld_alpha)
        policy = replace(policy, weight=desensitised.weight)
        reference = None if reference is None else replace(reference, weight=desensitised.weight)
    lengths = sample.policy.lengths
    if isinstance(config, DDPOConfig):
        means = segment_weighted_mean(policy)
        return scores_of(means, None if reference is None else segment_weighted_mean(reference), lengths)
    scores = scores_of(policy.sum(), None if reference is None else reference.sum(), lengths)
    return length_normalised(scores) if isinstance(config, PairConfig) and config.length_normalised else scores


def token_metrics_of_pairs(sample: Sample) -> Metrics:
    """Entropy, and token accuracy of chosen responses."""
    return token_metrics(sample.policy, of_chosen(sample.policy))


def _weigh(config: Any, sample: Sample, losses: Float[Tensor, " pairs"]) -> Float[Tensor, " pairs"]:
    if not config.wpo:
        return losses
    weights = wpo_weights(sample.policy)
    return losses * weights[0::2] * weights[1::2]


def _metrics(config: Any, sample: Sample) -> Metrics:
    scores = modified_scores(config, sample)
    if isinstance(config, SimPOConfig | ORPOConfig):
        scores = length_normalised(scores)
    rewards = reward_metrics(
        config.beta * (scores.chosen - scores.ref_chosen), config.beta * (scores.rejected - scores.ref_rejected)
    )
    return rewards | pair_metrics(sample.policy, pair_scores(sample.policy, None)) | token_metrics_of_pairs(sample)
