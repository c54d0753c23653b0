"""One all-reduce of a step's gradients, after every micro-batch is done: DDP's average without its hooks.

DDP averages inside the last backward; a process that runs out of memory there would leave the others waiting.
"""

import torch
from torch import Tensor, nn

BUCKET = 2**24
"""Gradient entries that travel together."""


def average_gradients(model: nn.Module) -> None:
    """Average the gradients of all processes in one pass, as DDP would have done; every process must call it.

    A weight that was used in some processes only (rows without pictures, where the tower trains) counts as zero in the
    others; one that was used in none keeps no gradient.
    """
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    used = torch.tensor([float(parameter.grad is not None) for parameter in trained], device=trained[0].device)
    torch.distributed.all_reduce(used)
    shared = [parameter for parameter, count in zip(trained, used.tolist(), strict=True) if count]
    for parameter in shared:
        if parameter.grad is None:
            parameter.grad = torch.zeros_like(parameter)
    for bucket in _buckets([parameter.grad for parameter in shared if parameter.grad is not None]):
        flat = torch.cat([gradient.flatten() for gradient in bucket])
        torch.distributed.all_reduce(flat)
        flat /= torch.distributed.get_world_size()
        for gradient, averaged in zip(bucket, flat.split([g.numel() for g in bucket]), strict=True):
            gradient.copy_(averaged.view_as(gradient))


def _buckets(gradients: list[Tensor]) -> list[list[Tensor]]:
    """Neighbours of one precision, at most `BUCKET` entries together."""
    buckets: list[list[Tensor]] = []
    room = 0
    for gradient in gradients:
        if not buckets or gradient.dtype != buckets[-1][0].dtype or gradient.numel() > room:
            buckets.append([])
            room = BUCKET
        buckets[-1].append(gradient)
        room -= gradient.numel()
    return buckets
