"""Objectives over rewards as parts: which ratio, surrogate and average each config means.

They read three of `Columns`: `advantage`, `old_logp` (without it completions are used once and π_old is π), and
`importance_weight`, where the sampler is not quite the policy.
"""

from collections.abc import Callable
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.config.custom import CustomOnlineConfig
from sightline.config.online_objectives import (
    CISPOConfig,
    ClippedConfig,
    DAPOConfig,
    DistillConfig,
    DrGRPOConfig,
    GRPOConfig,
    GSPOConfig,
    GSPOTokenConfig,
    OnlineConfig,
    ReinforcePPConfig,
    RLOOConfig,
    SAPOConfig,
    SurrogateConfig,
)
from sightline.objectives.custom import custom_loss
from sightline.objectives.distillation import reverse_kl_loss
from sightline.objectives.metrics import Metrics, averaged, token_metrics
from sightline.objectives.online.advantages import batch_advantages, group_advantages, leave_one_out_advantages
from sightline.objectives.online.cispo import cispo_loss
from sightline.objectives.online.clip import bounded_ratio, clipped_loss, clipped_tokens
from sightline.objectives.online.kl import kl_by_token, ratio_corrected
from sightline.objectives.online.overlong import overlong_punishment
from sightline.objectives.online.ratio import (
    sequence_log_ratio,
    sequence_log_ratio_by_token,
    summed_log_ratio,
    token_log_ratio,
)
from sightline.objectives.online.sapo import sapo_loss
from sightline.objectives.part import Part, Sample
from sightline.types import Denominator, Group, LogProbs

PER_COMPLETION = (GRPOConfig, GSPOConfig, GSPOTokenConfig, SAPOConfig, RLOOConfig)
"""Averaged over each completion's tokens, then over completions; all others over all tokens of the step."""

RATIOS: dict[type, Callable[[LogProbs, Tensor], Tensor]] = {
    GSPOConfig: sequence_log_ratio,
    GSPOTokenConfig: sequence_log_ratio_by_token,
    RLOOConfig: summed_log_ratio,
}
"""Objectives with one ratio per completion; all others have one a token."""


Advantages = Callable[..., Tensor]


def advantages_of(
    config: OnlineConfig,
    reward: Float[Tensor, " responses"],
    group: Int[Tensor, " responses"],
    length: Float[Tensor, " responses"],
    *,
    max_completion_length: int,
    log_ratio_to_reference: Float[Tensor, " responses"] | None = None,
) -> Float[Tensor, " responses"]:
    """Advantages of the whole step's completions.

    reward: NaN where no reward function judged the completion. group: which prompt each completion belongs to, from 0.
    length, max_completion_length: in tokens, for DAPO's overlong punishment.
    log_ratio_to_reference: log π_old(y|x)/π_ref(y|x) of each completion, summed; needed where KL stands in the reward.
    """
    if isinstance(config, DistillConfig):
        return torch.zeros_like(reward)  # the teacher judges each token, nobody the whole
    if isinstance(config, DAPOConfig) and config.overlong_buffer is not None:
        reward = reward + overlong_punishment(length, limit=max_completion_length, buffer=config.overlong_buffer)
    if isinstance(config, SurrogateConfig):
        return group_advantages(reward, group, scale=config.scale_rewards)
    if config.beta > 0:
        assert log_ratio_to_reference is not None, "KL in the reward needs the reference"
        reward = reward - config.beta * log_ratio_to_reference
    return leave_one_out_advantages(reward, group) if isinstance(config, RLOOConfig) else batch_advantages(reward)


def online_part(config: OnlineConfig, *, max_completion_length: int) -> Part:
    """The loss of a config. max_completion_length: tokens, Dr. GRPO's constant denominator."""
    per_completion = isinstance(config, PER_COMPLETION)
    kl_in_loss = isinstance(config, DistillConfig) or (isinstance(config, SurrogateConfig) and config.beta > 0)
    own = custom_loss(config) if isinstance(config, CustomOnlineConfig) else None

    def losses(sample: Sample) -> Tensor:
        token_loss = online_token_loss(config, sample, own) * sample.policy.weight
        if not per_completion:
            return token_loss
        total = token_loss.new_zeros(sample.policy.num_responses).index_add(0, sample.policy.response, token_loss)
        return total / sample.policy.lengths.clamp(min=1)

    def count(group: Group) -> int:
        if per_completion:
            return len(group.responses)
        if isinstance(config, DrGRPOConfig):
            return len(group.responses) * max_completion_length
        return sum(int((w > 0).sum()) for w in group.weights)

    per: Denominator = "responses" if per_completion else "tokens"
    return Part(
        weight=1.0,
        per=per,
        losses=losses,
        count=count,
        metrics=lambda sample: online_metrics(config, sample),
        needs_reference=kl_in_loss,
    )


def online_token_loss(
    config: OnlineConfig, sample: Sample, own: Callable[..., Tensor] | None = None
) -> Float[Tensor, " targets"]:
    """Surrogate, importance weight and KL term of each token. own: the user's surrogate (`custom_loss`)."""
    policy, log_ratio, advantage = sample.policy, _log_ratio(config, sample), _advantage(sample)
    match config:
        case DistillConfig():
            assert sample.reference is not None, "the objective needs a teacher"
            loss = config.beta * reverse_kl_loss(log_ratio, policy.logp, sample.reference.logp)
        case CISPOConfig():
            loss = cispo_loss(policy.logp, log_ratio, advantage, max_ratio=config.max_ratio)
        case SAPOConfig():
            loss = sapo_loss(
                log_ratio,
                advantage,
                temperature_positive=config.temperature_positive,
                temperature_negative=config.temperature_negative,
            )
        case CustomOnlineConfig():
            assert own is not None, "a loss of the user's own is loaded once, by `online_part`"
            bounds = {"epsilon": config.epsilon, "epsilon_high": config.epsilon_high or config.epsilon}
            given = {"log_ratio": log_ratio, "advantage": advantage, "logp": policy.logp, "beta": config.beta}
            loss = own(policy.logp, **given, **bounds)
        case _:
            max_ratio = config.max_ratio if isinstance(config, ClippedConfig) else None
            loss = clipped_loss(log_ratio, advantage, **_bounds(config), max_ratio=max_ratio)
    if sample.columns.importance_weight is not None:
        loss = loss * sample.columns.importance_weight
    if isinstance(config, SurrogateConfig) and config.beta > 0:
        loss = loss + config.beta * _kl(config, sample, log_ratio)
    return loss


def online_metrics(config: OnlineConfig, sample: Sample) -> Metrics:
    """Entropy, KL, and clipped ratios (of tokens or completions), by TRL's names."""
    policy, log_ratio, advantage = sample.policy, _log_ratio(config, sample), _advantage(sample)
    metrics = token_metrics(policy, torch.zeros_like(policy.weight, dtype=torch.bool))
    metrics.pop("mean_token_accuracy", None)
    one_each = _first_of_each_completion(policy) if type(config) in RATIOS else policy.weight > 0
    if isinstance(config, SurrogateConfig) and config.beta > 0:
        metrics["kl"] = averaged(_kl(config, sample, log_ratio), policy.weight > 0)
    if isinstance(config, DistillConfig):
        assert sample.reference is not None, "the objective needs a teacher"
        metrics["kl"] = averaged(policy.logp - sample.reference.logp, policy.weight > 0)
    elif isinstance(config, CISPOConfig):
        clipped = (bounded_ratio(log_ratio) > config.max_ratio) & (advantage > 0)
        metrics["cispo_clip_ratio"] = averaged(clipped.to(advantage.dtype), one_each)
    elif not isinstance(config, SAPOConfig):
        clipped = clipped_tokens(log_ratio, advantage, **_bounds(config))
        by_name = {"low": clipped.low, "high": clipped.high, "region": clipped.low | clipped.high}
        for name, which in by_name.items():
            metrics[f"clip_ratio/{name}_mean"] = averaged(which.to(advantage.dtype), one_each)
    return metrics


def _bounds(config: OnlineConfig) -> dict[str, Any]:
    assert isinstance(config, ClippedConfig | RLOOConfig | ReinforcePPConfig)
    high = config.epsilon if config.epsilon_high is None else config.epsilon_high
    return {"epsilon_low": config.epsilon, "epsilon_high": high}


def _log_ratio(config: OnlineConfig, sample: Sample) -> Float[Tensor, " targets"]:
    policy = sample.policy
    old = policy.logp.detach() if sample.columns.old_logp is None else sample.columns.old_logp
    return RATIOS.get(type(config), token_log_ratio)(policy, old)


def _advantage(sample: Sample) -> Float[Tensor, " targets"]:
    assert sample.columns.advantage is not None, "the objective needs advantages"
    return sample.columns.advantage[sample.policy.response].to(sample.policy.logp.dtype)


def _kl(config: SurrogateConfig, sample: Sample, log_ratio: Float[Tensor, " targets"]) -> Float[Tensor, " targets"]:
    assert sample.reference is not None, "the objective needs a reference"
    kl = kl_by_token(sample.policy.logp, sample.reference.logp, estimator=config.kl_estimator)
    return ratio_corrected(kl, log_ratio) if config.kl_ratio_corrected else kl


def _first_of_each_completion(policy: LogProbs) -> Bool[Tensor, " targets"]:
    """One target token of each completion that has any."""
    target = policy.weight > 0
    # the number of targets up to here, in the whole batch and where the response begins
    so_far = target.long().cumsum(0)
    before = so_far.new_zeros(policy.num_responses).index_add(0, policy.response, target.long()).cumsum(0)
    before = torch.nn.functional.pad(before[:-1], (1, 0))
    return target & (so_far - before[policy.response] == 1)
