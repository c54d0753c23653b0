"""A sampler that is not quite the policy: how far off its log-probs are, how that is corrected, and when to stop."""

import torch
from jaxtyping import Float
from torch import Tensor

from sightline.config.online import OffPolicySamplerConfig, SamplingConfig
from sightline.errors import SamplerError
from sightline.objectives.online.importance import importance_weights
from sightline.training.online.rewards import sampling_metrics
from sightline.training.online.rollouts import Rollout
from sightline.types import LogProbs


def sampler_logp(rollout: Rollout) -> Float[Tensor, " tokens"]:
    """What the sampler says of its completions' tokens, one completion after the other."""
    return torch.cat([one.log_probs for one in rollout.sampled if one.log_probs is not None])


def gives_log_probs(rollouts: list[Rollout]) -> bool:
    """Whether the sampler says how likely its completions were; without that nothing can be compared or corrected."""
    return all(one.log_probs is not None for each in rollouts for one in each.sampled)


def stale(rollouts: list[Rollout], old: list[LogProbs], sampling: SamplingConfig) -> SamplerError | None:
    """What to say of a sampler whose log-probs are far from the trainer's (`old`): it has other weights."""
    if not isinstance(sampling, OffPolicySamplerConfig) or not rollouts or not gives_log_probs(rollouts):
        return None
    pairs = zip(rollouts, old, strict=True)
    difference = float(torch.cat([(one.logp - sampler_logp(each)).abs() for each, one in pairs]).mean())
    if difference <= sampling.max_logp_difference:
        return None
    return SamplerError(
        f"The sampler's log-probs are {difference:.3f} nats per token away from the trainer's, more than "
        f"`sampler.max_logp_difference: {sampling.max_logp_difference:g}`: it samples from other weights than those "
        "that are trained. Start its server again with this recipe, or raise the limit if both compute in very "
        "different precision."
    )


def correction(
    rollout: Rollout, old: LogProbs, sampling: SamplingConfig
) -> tuple[Float[Tensor, " tokens"] | None, dict[str, float]]:
    """Importance weights of a group's tokens, and metrics; none for a sampler that is the policy."""
    if not isinstance(sampling, OffPolicySamplerConfig) or not gives_log_probs([rollout]):
        return None, {}
    said = sampler_logp(rollout)
    mode = sampling.importance_sampling
    if mode == "none":
        return None, sampling_metrics(old.logp, said, torch.ones_like(said))
    weight = importance_weights(old, said, mode=mode, cap=sampling.importance_sampling_cap)
    return weight, sampling_metrics(old.logp, said, weight)
