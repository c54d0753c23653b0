"""What a round's rewards give: their statistics over all processes, advantages, and logged metrics."""

import math
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from sightline.objectives.objective import Objective
from sightline.objectives.online.advantages import group_std, without_variance
from sightline.training.online.rollouts import Rollout
from sightline.training.step.micro_batch import StepSettings


@dataclass(frozen=True, kw_only=True)
class RewardStats:
    """Figures of completions; adds up over processes. group: which prompt each completion belongs to, from 0."""

    values: Float[Tensor, "responses rewards"]
    total: Float[Tensor, " responses"]
    group: Int[Tensor, " responses"]
    length: Float[Tensor, " responses"]
    finished: Bool[Tensor, " responses"]

    @classmethod
    def of(cls, rollouts: list[Rollout], num_rewards: int) -> "RewardStats":
        """The figures of these prompts' completions."""
        sampled = [one for each in rollouts for one in each.sampled]
        sizes = torch.tensor([len(each.sampled) for each in rollouts], dtype=torch.long)
        return cls(
            values=torch.cat([*(each.values for each in rollouts), torch.zeros(0, num_rewards)]),
            total=torch.cat([*(each.total for each in rollouts), torch.zeros(0)]),
            group=torch.repeat_interleave(torch.arange(len(rollouts)), sizes),
            length=torch.tensor([float(len(one.ids)) for one in sampled]),
            finished=torch.tensor([one.finished for one in sampled], dtype=torch.bool),
        )

    @classmethod
    def join(cls, parts: list["RewardStats"]) -> "RewardStats":
        """Those of several processes, in their order."""
        groups, first = [], 0
        for part in parts:
            groups.append(part.group + first)
            first += int(part.group.max()) + 1 if len(part.group) else 0
        return cls(
            values=torch.cat([part.values for part in parts]),
            total=torch.cat([part.total for part in parts]),
            group=torch.cat(groups),
            length=torch.cat([part.length for part in parts]),
            finished=torch.cat([part.finished for part in parts]),
        )

    @property
    def flat(self) -> Bool[Tensor, " groups"]:
        """Prompts whose completions all have the same reward."""
        return without_variance(self.total, self.group)


def round_metrics(stats: RewardStats, reward_names: list[str]) -> dict[str, float]:
    """Rewards, spread within prompts, and lengths. A figure that nothing counts towards is left out."""
    figures = {
        "reward": stats.total.nanmean(),
        "reward_std": group_std(stats.total, stats.group).nanmean(),
        "frac_reward_zero_std": stats.flat.float().mean(),
    }
    for name, values in zip(reward_names, stats.values.unbind(-1), strict=True):
        applied = values[~values.isnan()]
        figures[f"rewards/{name}/mean"] = applied.mean()
        figures[f"rewards/{name}/std"] = applied.std()
    figures |= _lengths("length", stats.length) | _lengths("terminated_length", stats.length[stats.finished])
    figures["completions/clipped_ratio"] = (~stats.finished).float().mean()
    return {name: float(value) for name, value in figures.items() if not math.isnan(float(value))}


def sampling_metrics(
    old_logp: Float[Tensor, " tokens"], sampler_logp: Float[Tensor, " tokens"], weight: Float[Tensor, " tokens"]
) -> dict[str, float]:
    """How far the sampler's log-probs are from the trainer's, in nats, and what the correction makes of it."""
    difference = (old_logp - sampler_logp).abs()
    return {
        "sampling/sampling_logp_difference/mean": float(difference.mean()),
        "sampling/sampling_logp_difference/max": float(difference.max()),
        "sampling/importance_sampling_ratio/min": float(weight.min()),
        "sampling/importance_sampling_ratio/mean": float(weight.mean()),
        "sampling/importance_sampling_ratio/max": float(weight.max()),
    }


def _lengths(name: str, length: Float[Tensor, " responses"]) -> dict[str, Tensor]:
    if not len(length):
        return {}
    return {
        f"completions/mean_{name}": length.mean(),
        f"completions/min_{name}": length.min(),
        f"completions/max_{name}": length.max(),
    }


def advantages_of(
    stats: RewardStats, log_ratios: list[Tensor | None], objective: Objective, settings: StepSettings
) -> list[Tensor]:
    """The advantages of each group's completions.

    stats: of this process's completions. log_ratios: log π/π_ref of each of them, where the objective's KL is part
    of the reward.
    """
    assert objective.advantages is not None
    ratios = [ratio for ratio in log_ratios if ratio is not None]
    parts: list[tuple[RewardStats, Tensor | None]] = settings.gather((stats, torch.cat(ratios) if ratios else None))
    whole = RewardStats.join([part for part, _ in parts])
    with_ratio = [ratio for _, ratio in parts if ratio is not None]
    advantages = objective.advantages(
        whole.total,
        whole.group,
        whole.length,
        log_ratio_to_reference=torch.cat(with_ratio) if with_ratio else None,
    )
    first = sum(len(part.total) for part, _ in parts[: settings.process_index])
    mine = advantages[first : first + len(stats.total)]
    return list(mine.split(torch.bincount(stats.group, minlength=len(log_ratios)).tolist()))
