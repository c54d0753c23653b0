"""Advantages: how much better a completion's reward is than its prompt's other completions'.

    group   A = (r − mean of the group) / (std of the group + 10⁻⁴)    GRPO (arXiv:2402.03300)
    batch   A = (r − mean of the group) / (std of the batch + 10⁻⁴)    (arXiv:2508.08221)
    none    A = r − mean of the group                                  Dr. GRPO (arXiv:2503.20783)
    RLOO    A = r − mean of the group's other completions                  (arXiv:2402.14740)
    REINFORCE++  A = (r − mean of the batch) / (std of the batch + 10⁻⁴)    (arXiv:2501.03262)

A reward of NaN is a completion that no reward function could judge: it is in no mean and its advantage is 0.
Standard deviations are those of samples (divided by n − 1); a single judged completion of a group has advantage 0.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

STD_FLOOR = 1e-4

Scale = Literal["group", "batch", "none"]


def group_advantages(
    reward: Float[Tensor, " responses"], group: Int[Tensor, " responses"], *, scale: Scale
) -> Float[Tensor, " responses"]:
    """Reward above its group's mean, scaled as `scale` says. group: which prompt each completion belongs to, from 0."""
    centred = reward - _group_mean(reward, group)
    match scale:
        case "group":
            centred = centred / (group_std(reward, group)[group] + STD_FLOOR)
        case "batch":
            centred = centred / (_std(reward) + STD_FLOOR)
        case "none":
            pass
    return centred.nan_to_num(nan=0.0)


def leave_one_out_advantages(
    reward: Float[Tensor, " responses"], group: Int[Tensor, " responses"]
) -> Float[Tensor, " responses"]:
    """Reward above the mean of the same prompt's other completions."""
    total, count = _group_sums(reward, group)
    others = (total[group] - reward) / (count[group] - 1)
    return (reward - others).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)


def batch_advantages(reward: Float[Tensor, " responses"]) -> Float[Tensor, " responses"]:
    """Reward above the mean of all completions of the step, in standard deviations of the step."""
    return ((reward - reward.nanmean()) / (_std(reward) + STD_FLOOR)).nan_to_num(nan=0.0)


def group_std(reward: Float[Tensor, " responses"], group: Int[Tensor, " responses"]) -> Float[Tensor, " groups"]:
    """Standard deviation of each prompt's rewards; NaN with fewer than two judged completions."""
    squares, count = _group_sums((reward - _group_mean(reward, group)) ** 2, group)
    return torch.where(count > 1, squares / (count - 1).clamp(min=1), torch.nan).sqrt()


def without_variance(reward: Float[Tensor, " responses"], group: Int[Tensor, " responses"]) -> Bool[Tensor, " groups"]:
    """Prompts whose completions all have the same reward: they teach nothing (DAPO's dynamic sampling draws others)."""
    deviation = group_std(reward, group)
    return deviation.isnan() | torch.isclose(deviation, torch.zeros_like(deviation))


def _group_sums(values: Tensor, group: Tensor) -> tuple[Tensor, Tensor]:
    """Sum and count of each group's values that are not NaN."""
    judged = ~values.isnan()
    zeros = values.new_zeros(int(group.max()) + 1)
    return zeros.index_add(0, group, values.nan_to_num(nan=0.0)), zeros.index_add(0, group, judged.to(values.dtype))


def _group_mean(reward: Tensor, group: Tensor) -> Tensor:
    total, count = _group_sums(reward, group)
    return (total / count.clamp(min=1))[group]


def _std(values: Tensor) -> Tensor:
    return values[~values.isnan()].std()
