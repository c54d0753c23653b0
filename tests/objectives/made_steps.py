"""Steps made up for tests: groups, and random log-probs of them, without a model."""

import torch
from torch import Tensor

from sightline.objectives.objective import Objective
from sightline.objectives.roles import CORRUPTED, MISMATCHED, ORDINARY
from sightline.types import Columns, Group, LogProbs

STATISTICS = ("entropy", "top1", "mean_logit", "log_sum_sq")


def make_groups(num: int, objective: Objective, *, seed: int = 0, segments: bool = True) -> list[Group]:
    """Groups with the responses that the objective asks for, of 1–7 tokens; some tokens weigh more (`segments`)."""
    generator = torch.Generator().manual_seed(seed)
    roles = [ORDINARY] * (objective.num_responses or 2) + [r for r in (MISMATCHED, CORRUPTED) if r in objective.roles]
    groups = []
    for index in range(num):
        lengths = torch.randint(1, 8, (len(roles),), generator=generator).tolist()
        weights = [torch.ones(n) for n in lengths]
        if segments:
            weights = [torch.where(torch.rand(len(w), generator=generator) < 0.3, 5.0, w) for w in weights]
        groups.append(
            Group(
                id=f"made:{index}",
                prompt_ids=torch.arange(3),
                responses=tuple(torch.arange(n) for n in lengths),
                weights=tuple(weights),
                columns=Columns(role=torch.tensor(roles)),
            )
        )
    return groups


def make_log_probs(
    groups: list[Group], *, seed: int, dtype: torch.dtype = torch.float64, scale: float = 1.0
) -> LogProbs:
    """Random log-probs and statistics of the groups' responses; `logp` is a leaf that takes gradients."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.tensor([len(r) for g in groups for r in g.responses])
    num_tokens = int(lengths.sum())

    def random() -> Tensor:
        return torch.rand(num_tokens, generator=generator, dtype=torch.float64).to(dtype)

    return LogProbs(
        logp=(random().log() * scale).requires_grad_(),
        weight=torch.cat([w for g in groups for w in g.weights]).to(dtype),
        response=torch.repeat_interleave(torch.arange(len(lengths)), lengths),
        response_group=torch.tensor([i for i, g in enumerate(groups) for _ in g.responses]),
        num_groups=len(groups),
        entropy=random(),
        top1=random() < 0.5,
        mean_logit=random() - 5,
        log_sum_sq=-random(),
    )


def columns_of(groups: list[Group]) -> Columns:
    """Columns of the groups, as the trainer hands them over."""
    return Columns.join([group.columns for group in groups])


def total_loss(
    objective: Objective,
    groups: list[Group],
    policy: LogProbs,
    reference: LogProbs | None,
    *,
    counts: dict[str, int] | None = None,
) -> Tensor:
    """The step's loss as the trainer reduces it; `counts` of a larger step when this is only a piece of it."""
    state = objective.update_state(objective.initial_state(), policy, reference, columns_of(groups))
    losses = objective(policy, reference, columns_of(groups), state)
    counts = objective.counts(groups) if counts is None else counts
    return sum(objective.weights[name] * loss.value / counts[name] for name, loss in losses.items())
