"""Shared-prefix layout: `[prompt | response 1 | … | response K]` in one row, several groups a row.

No token is computed twice. Positions restart after the prompt for each response, `visibility` keeps responses apart,
and an index says which hidden state predicts which target; the first token of *every* response is predicted by the
last prompt token. What follows a response's last but one target is not fed at all: it would predict nothing (but for
mixtures of experts, whose router loss is over all tokens).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from sightline.layout.grid import PADDING, response_ids, stack_rows, target_mask
from sightline.layout.packing import first_fit_decreasing
from sightline.types import Batch, Group


@dataclass(frozen=True, kw_only=True)
class Strip:
    """One group as a flat row of L tokens, targets aside.

    predictor: [T] column, inside the strip, of the hidden state that predicts each target.
    response: [T] response of each target, counted inside the group.
    """

    input_ids: Tensor
    positions: Tensor
    segment: Tensor
    rank: Tensor
    block: Tensor
    predictor: Tensor
    target: Tensor
    weight: Tensor
    response: Tensor


def lay_out(groups: list[Group], row_length: int | None = None) -> Batch:
    """Lay groups out side by side, several in a row where they fit.

    groups: placed by their model's family (`positions` and `block` set).
    row_length: tokens a row may hold; the longest group when left out. A longer group gets a row of its own.
    Targets are the response tokens of weight other than 0, group by group, response by response.
    """
    strips = [_strip(group) for group in groups]
    lengths = [len(strip.input_ids) for strip in strips]
    rows = first_fit_decreasing(lengths, row_length or max(lengths))
    grid_length = max(sum(lengths[g] for g in row) for row in rows)
    start = {}  # group -> flat index of its first token
    for r, row in enumerate(rows):
        column = 0
        for g in row:
            start[g] = r * grid_length + column
            column += lengths[g]

    def grid(name: str, fill: int) -> Tensor:
        return stack_rows([torch.cat([getattr(strips[g], name) for g in row], -1) for row in rows], fill)

    num_responses = [len(group.responses) for group in groups]
    first_response = torch.tensor([0, *num_responses]).cumsum(0).tolist()
    return Batch(
        input_ids=grid("input_ids", 0),
        position_ids=grid("positions", 0),
        group=stack_rows([torch.cat([torch.full((lengths[g],), g) for g in row]) for row in rows], PADDING),
        segment=grid("segment", PADDING),
        rank=grid("rank", 0),
        block=grid("block", PADDING),
        predictor=torch.cat([strip.predictor + start[g] for g, strip in enumerate(strips)]),
        target=torch.cat([strip.target for strip in strips]),
        weight=torch.cat([strip.weight for strip in strips]),
        response=torch.cat([strip.response + first_response[g] for g, strip in enumerate(strips)]),
        response_group=response_ids(num_responses),
        num_groups=len(groups),
    )


def num_fed(group: Group) -> int:
    """Tokens of a group's row: the prompt, and of each response what comes before its last target."""
    return len(group.prompt_ids) + sum(_fed(group))


def _fed(group: Group) -> list[int]:
    """Tokens of each response that are fed."""
    if group.fed_whole:
        return group.lengths
    scored = [target_mask(weights).nonzero()[:, 0] for weights in group.weights]
    return [int(targets[-1]) if len(targets) else 0 for targets in scored]


def _strip(group: Group) -> Strip:
    assert group.positions is not None and group.block is not None, "place the group by its model's family first"
    prompt_length = len(group.prompt_ids)
    scored = [target_mask(w).nonzero()[:, 0] for w in group.weights]
    # a response is fed up to the token before its last target
    fed = _fed(group)
    columns, start = [], prompt_length
    for targets, length in zip(scored, fed, strict=True):
        # token j of a response stands in column start + j and is predicted from the one before it;
        # the first response token is predicted by the last prompt token
        columns.append(torch.where(targets == 0, prompt_length - 1, start + targets - 1))
        start += length
    prompt = torch.arange(prompt_length)
    offsets = [torch.arange(length) for length in fed]
    restart = group.next_position + torch.cat([*offsets, prompt[:0]])
    return Strip(
        input_ids=torch.cat([group.prompt_ids, *(r[:n] for r, n in zip(group.responses, fed, strict=True))]),
        positions=torch.cat([group.positions, restart.expand(*group.positions.shape[:-1], -1)], -1),
        segment=torch.cat([torch.zeros_like(prompt), *(torch.full_like(o, k + 1) for k, o in enumerate(offsets))]),
        rank=torch.cat([prompt, *(prompt_length + o for o in offsets)]),
        block=torch.cat([group.block, *(torch.full_like(o, PADDING) for o in offsets)]),
        predictor=torch.cat([*columns, prompt[:0]]),
        target=torch.cat([*(r[s] for r, s in zip(group.responses, scored, strict=True)), prompt[:0]]),
        weight=torch.cat([*(w[s].float() for w, s in zip(group.weights, scored, strict=True)), torch.zeros(0)]),
        response=torch.cat([*(torch.full_like(s, k) for k, s in enumerate(scored)), prompt[:0]]),
    )
