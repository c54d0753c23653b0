"""Padded layout: one row per response, the prompt repeated, filled on the right. Slow, plain, the oracle.

It carries no positions: the model counts them itself under an ordinary two-dimensional mask, as in any other trainer.
"""

import torch

from sightline.layout.grid import PADDING, response_ids, stack_rows, target_mask
from sightline.types import Batch, Group


def lay_out(groups: list[Group]) -> Batch:
    """Lay every response out after its own copy of the prompt; same targets, in the same order, as `prefix.lay_out`.

    `position_ids` is None: the forward then passes a two-dimensional mask (tokens or padding) and no positions.
    `segment` is 0 in the prompt and k in the k-th response; `block` is causal throughout, the model makes its own.
    """
    ids, group_rows, segments, ranks, predictors, targets, weights, responses = [], [], [], [], [], [], [], []
    for g, group in enumerate(groups):
        prompt_length = len(group.prompt_ids)
        for k, (response, weight) in enumerate(zip(group.responses, group.weights, strict=True)):
            length = prompt_length + len(response)
            ids.append(torch.cat([group.prompt_ids, response]))
            group_rows.append(torch.full((length,), g))
            segments.append(torch.where(torch.arange(length) < prompt_length, 0, k + 1))
            ranks.append(torch.arange(length))
            scored = target_mask(weight).nonzero()[:, 0]
            predictors.append(prompt_length + scored - 1)
            targets.append(response[scored])
            weights.append(weight[scored].float())
            responses.append(torch.full_like(scored, len(responses)))
    input_ids = stack_rows(ids, 0)
    length = input_ids.shape[1]
    return Batch(
        input_ids=input_ids,
        position_ids=None,
        group=stack_rows(group_rows, PADDING),
        segment=stack_rows(segments, PADDING),
        rank=stack_rows(ranks, 0),
        block=torch.full_like(input_ids, PADDING),
        predictor=torch.cat([row * length + columns for row, columns in enumerate(predictors)]),
        target=torch.cat(targets),
        weight=torch.cat(weights),
        response=torch.cat(responses),
        response_group=response_ids([len(group.responses) for group in groups]),
        num_groups=len(groups),
    )
