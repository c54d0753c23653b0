"""What a method needs beyond its rows: KTO's mismatched answers, the roles of mDPO's, DDPO's weights.

KTO (arXiv:2402.01306, §4.1) estimates a KL divergence from answers to other prompts. Neighbours in the step of all
processes lend each other theirs, 2k to 2k + 1 and back, so that the pairing is the same however many processes there
are. The lent answer stands in the same group: prompt and picture are computed once for it too.
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
    spare: Group | None = None,
) -> list[Group]:
    """The step's groups with what the objective's roles ask for; untouched where it asks for nothing.

    gather: of the processes that share the step; all of them have to call. spare: the group to borrow from where there
    is a single one. Raises `RecipeError` where KTO's step then still has a single prompt.
    """
    if not roles:
        return groups
    marked = [_marked(group) for group in groups]
    return _with_mismatched(marked, gather, process_index, spare) if MISMATCHED in roles else marked


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


def _with_mismatched(groups: list[Group], gather: Gather, process_index: int, spare: Group | None) -> list[Group]:
    answers = gather([(group.responses[0], group.weights[0]) for group in groups])
    everywhere = [answer for of_process in answers for answer in of_process]
    first = sum(len(of_process) for of_process in answers[:process_index])
    if not groups:
        return []  # a process without rows in this step takes part in the exchange alone
    if len(everywhere) == 1 and spare is not None:
        everywhere, first = [(spare.responses[0], spare.weights[0]), *everywhere], 1
    if len(everywhere) < 2:
        raise RecipeError(
            "KTO compares each prompt with another prompt's answer, and there is only this one. Give it more rows, or "
            "raise `per_device_train_batch_size` or `gradient_accumulation_steps`."
        )
    return [_with_answer(group, *everywhere[_neighbour(first + i, len(everywhere))]) for i, group in enumerate(groups)]


def _neighbour(place: int, number: int) -> int:
    """0 ↔ 1, 2 ↔ 3, …; an odd one at the end borrows from the one before."""
    return place ^ 1 if place ^ 1 < number else place - 1


def _with_answer(group: Group, response: Tensor, weight: Tensor) -> Group:
    """The group with another prompt's answer behind its own."""
    # a mismatched answer is neither desirable nor not; objectives leave it out by its role
    label = None if group.columns.label is None else torch.tensor([False])
    columns = Columns.join([group.columns, Columns(role=torch.tensor([MISMATCHED]), label=label)])
    return replace(group, responses=(*group.responses, response), weights=(*group.weights, weight), columns=columns)
