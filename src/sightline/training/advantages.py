"""Advantages of a round of sampling: from the rewards of all processes, for the answers of this one."""

import torch
from torch import Tensor

from sightline.objectives.objective import Objective
from sightline.training.micro_batch import StepSettings
from sightline.training.online_metrics import Tally


def advantages_of(
    tally: Tally, log_ratios: list[Tensor | None], objective: Objective, settings: StepSettings
) -> list[Tensor]:
    """The advantages of each group's answers.

    tally: of this process's answers. log_ratios: log π/π_ref of each group's answers, where the objective's KL is part
    of the reward.
    """
    assert objective.advantages is not None
    ratios = [ratio for ratio in log_ratios if ratio is not None]
    parts: list[tuple[Tally, Tensor | None]] = settings.gather((tally, torch.cat(ratios) if ratios else None))
    whole = Tally.join([part for part, _ in parts])
    with_ratio = [ratio for _, ratio in parts if ratio is not None]
    advantages = objective.advantages(
        whole.total,
        whole.group,
        whole.length,
        log_ratio_to_reference=torch.cat(with_ratio) if with_ratio else None,
    )
    first = sum(len(part.total) for part, _ in parts[: settings.process_index])
    mine = advantages[first : first + len(tally.total)]
    return list(mine.split(torch.bincount(tally.group, minlength=len(log_ratios)).tolist()))
