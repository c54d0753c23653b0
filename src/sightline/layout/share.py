"""Groups that were rendered apart but show the same images become one group, so that the images are computed once.

The longest common prefix of the prompts becomes the prompt; what is left of each prompt goes in front of its responses
with weight 0. Exact only where prompts are causal: a two-way prompt (PaliGemma) sees its own question from the image.
"""

from collections.abc import Collection
from typing import Any

import torch
from torch import Tensor

from sightline.types import Columns, Group


def share_prefix(groups: list[Group], image_token_ids: Collection[int] = ()) -> Group | None:
    """Join groups that show the same images; None where they do not, or where a question comes before its image.

    groups: not placed yet. image_token_ids: token ids that stand for images; all must lie in the common prefix.
    The result has the responses of all groups in order, with their columns and rows.
    """
    assert all(group.positions is None for group in groups), "share groups before they are placed"
    length = _common_length([group.prompt_ids for group in groups])
    images = torch.tensor(sorted(image_token_ids))
    if length == 0 or any(torch.isin(group.prompt_ids[length:], images).any() for group in groups):
        return None
    inputs = [_cut(group, length) for group in groups]
    if not all(_same(inputs[0], other) for other in inputs[1:]):
        return None
    responses, weights = [], []
    for group in groups:
        rest = group.prompt_ids[length:]
        responses += [torch.cat([rest, response]) for response in group.responses]
        weights += [torch.cat([weight.new_zeros(len(rest)), weight]) for weight in group.weights]
    return Group(
        id="+".join(group.id for group in groups),
        prompt_ids=groups[0].prompt_ids[:length],
        responses=tuple(responses),
        weights=tuple(weights),
        model_inputs=inputs[0],
        columns=Columns.join([group.columns for group in groups]),
        rows=tuple(row for group in groups for row in group.rows),
        truncated={name: number for group in groups for name, number in group.truncated.items()},
    )


def _common_length(prompts: list[Tensor]) -> int:
    shortest = min(len(p) for p in prompts)
    first = prompts[0][:shortest]
    differs = torch.stack([p[:shortest] != first for p in prompts]).any(0)
    return int(differs.int().argmax()) if bool(differs.any()) else shortest


def _cut(group: Group, length: int) -> dict[str, Any]:
    """The model inputs with those that run along the prompt, [1, P, …], cut to the common prefix."""
    whole = len(group.prompt_ids)
    return {
        name: value[:, :length]
        if isinstance(value, Tensor) and value.ndim > 1 and value.shape[:2] == (1, whole)
        else value
        for name, value in group.model_inputs.items()
    }


def _same(a: dict[str, Any], b: dict[str, Any]) -> bool:
    return a.keys() == b.keys() and all(
        torch.equal(a[name], b[name]) if isinstance(a[name], Tensor) else a[name] == b[name] for name in a
    )
