"""What a method needs beyond its rows: KTO's mismatched completions, mDPO's roles, DDPO's weights.

KTO (arXiv:2402.01306, §4.1) estimates a KL divergence from responses to other prompts. Neighbors in the step of all
processes exchange theirs, 2k with 2k + 1, so that the pairing is the same however many processes there are. The
mismatched completion joins the group: prompt and image are computed once for it too.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from sightline.errors import RecipeError
from sightline.objectives.ddpo import corrected_tokens
from sightline.objectives.roles import CORRUPTED, MISMATCHED, ORDINARY
from sightline.types import Columns, Group

Gather = Callable[[Any], list[Any]]
"""Lists an object of every process, in their order."""


def alone(thing: Any) -> list[Any]:
    """`Gather` of a single process."""
    return [thing]


def with_auxiliary(
    groups: list[Group],
    roles: frozenset[int],
    *,
    gather: Gather = alone,
    process_index: int = 0,
    other: Group | None = None,
) -> list[Group]:
    """The step's groups with what the objective's roles need; unchanged where they need nothing.

    gather: of the processes that share the step; all of them have to call. other: a group to take the mismatched
    completion from where there is a single one. Raises `RecipeError` where KTO's step then still has a single prompt.
    """
    if not roles:
        return groups
    marked = [_marked(group) for group in groups]
    return _with_mismatched(marked, gather, process_index, other) if MISMATCHED in roles else marked


def with_corrected(groups: list[Group], weight: float) -> list[Group]:
    """DDPO's groups: where chosen and rejected response differ, tokens weigh `weight`; rows that mark segments of their
    own keep them."""
    return groups if weight == 1 else [_corrected(group, weight) for group in groups]


def _corrected(group: Group, weight: float) -> Group:
    if any(bool(((w != 0) & (w != 1)).any()) for w in group.weights):
        return group
    weights = []
    for pair in range(0, len(group.responses) - 1, 2):
        marked = corrected_tokens(group.responses[pair], group.responses[pair + 1])
        weights += [torch.where(m, weight * w, w) for m, w in zip(marked, group.weights[pair : pair + 2], strict=True)]
    return replace(group, weights=tuple(weights))


def _marked(group: Group) -> Group:
    companions = tuple(
        replace(companion, columns=replace(companion.columns, role=torch.full((len(companion.responses),), CORRUPTED)))
        for companion in group.companions
    )
    role = torch.full((len(group.responses),), ORDINARY)
    return replace(group, columns=replace(group.columns, role=role), companions=companions)


def _with_mismatched(groups: list[Group], gather: Gather, process_index: int, other: Group | None) -> list[Group]:
    gathered = gather([(group.responses[0], group.weights[0]) for group in groups])
    everywhere = [response for of_process in gathered for response in of_process]
    first = sum(len(of_process) for of_process in gathered[:process_index])
    if not groups:
        return []  # a process without rows in this step only takes part in the exchange
    if len(everywhere) == 1 and other is not None:
        everywhere, first = [(other.responses[0], other.weights[0]), *everywhere], 1
    if len(everywhere) < 2:
        raise RecipeError(
            "KTO compares each prompt with another prompt's response, and there is only this one. Give it more rows, "
            "or raise `per_device_train_batch_size` or `gradient_accumulation_steps`."
        )
    return [_joined(group, *everywhere[_neighbor(first + i, len(everywhere))]) for i, group in enumerate(groups)]


def _neighbor(place: int, number: int) -> int:
    """0 ↔ 1, 2 ↔ 3, …; an odd one at the end takes the one before."""
    return place ^ 1 if place ^ 1 < number else place - 1


def _joined(group: Group, response: Tensor, weight: Tensor) -> Group:
    """The group with a mismatched completion after its own responses."""
    # it is neither desirable nor undesirable; objectives leave it out by its role
    label = None if group.columns.label is None else torch.tensor([False])
    columns = Columns.join([group.columns, Columns(role=torch.tensor([MISMATCHED]), label=label)])
    return replace(group, responses=(*group.responses, response), weights=(*group.weights, weight), columns=columns)
