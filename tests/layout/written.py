"""Groups written by hand: no model, no processor."""

import torch

from sightline.types import Group


def write_group(
    prompt: list[int],
    *responses: list[int],
    weights: list[list[float]] | None = None,
    block: list[int] | None = None,
    start: int = 0,
) -> Group:
    """A placed group; positions count from `start`, weights are 1 and blocks causal unless given."""
    given = weights or [[1.0] * len(response) for response in responses]
    return Group(
        id=str(prompt),
        prompt_ids=torch.tensor(prompt),
        responses=tuple(torch.tensor(response) for response in responses),
        weights=tuple(torch.tensor(weight) for weight in given),
        positions=torch.arange(start, start + len(prompt)),
        next_position=start + len(prompt),
        block=torch.tensor(block or [-1] * len(prompt)),
    )
