"""Responses and groups that a method needs beyond its rows: KTO's mismatched answers, the roles of mDPO's.

KTO (arXiv:2402.01306, §4.1) estimates a KL divergence from answers to other prompts. Neighbours in the step lend each
other theirs, 2k to 2k + 1 and back, so that with an even batch size the pairing is the same for any number of
processes. The lent answer stands in the same group: prompt and picture are computed once for it too.
"""

from dataclasses import replace

import torch

from sightline.errors import RecipeError
from sightline.objectives.roles import CORRUPTED, MISMATCHED, ORDINARY
from sightline.types import Group


def with_auxiliary(groups: list[Group], roles: frozenset[int]) -> list[Group]:
    """The step's groups with what the objective's roles ask for; untouched where it asks for nothing."""
    if not roles:
        return groups
    marked = [_marked(group) for group in groups]
    return _with_mismatched(marked) if MISMATCHED in roles else marked


def _marked(group: Group) -> Group:
    companions = tuple(
        replace(companion, extra={**companion.extra, "role": torch.full((len(companion.responses),), CORRUPTED)})
        for companion in group.companions
    )
    role = torch.full((len(group.responses),), ORDINARY)
    return replace(group, extra={**group.extra, "role": role}, companions=companions)


def _with_mismatched(groups: list[Group]) -> list[Group]:
    if len(groups) < 2:
        raise RecipeError(
            "KTO compares each prompt with another prompt's answer, so every step needs at least two rows in each "
            "process. Raise `per_device_train_batch_size` or `gradient_accumulation_steps`, or leave out the last row."
        )
    result = []
    for index, group in enumerate(groups):
        lender = groups[index ^ 1] if index ^ 1 < len(groups) else groups[index - 1]
        extra = {**group.extra, "role": torch.cat([group.extra["role"], torch.tensor([MISMATCHED])])}
        if "label" in extra:
            # a mismatched answer is neither desirable nor not; objectives leave it out by its role
            extra["label"] = torch.cat([extra["label"], torch.tensor([False])])
        result.append(
            replace(
                group,
                responses=(*group.responses, lender.responses[0]),
                weights=(*group.weights, lender.weights[0]),
                extra=extra,
            )
        )
    return result
