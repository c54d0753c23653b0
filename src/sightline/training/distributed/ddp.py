"""One process, or torch's DDP: the whole model in each, gradients averaged once a step.

DDP itself averages inside the last backward, where a process that runs out of memory would leave the others waiting.
Here all backwards run under `no_sync`, and gradients are averaged when every micro-batch is done.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from accelerate.utils import DistributedType
from torch import Tensor, nn
from torch.optim import Optimizer

from sightline.training.checkpoint.files import load_state, save_state
from sightline.training.distributed.engine import Engine

OPTIMIZER = "optimizer.safetensors"
BUCKET = 2**24
"""Gradient entries that travel in one all-reduce."""


class DDP(Engine):
    """The engine of one process, too."""

    accelerate_types = (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU)
    sharded = False

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, frozen_copy: nn.Module | None
    ) -> tuple[nn.Module, Optimizer]:
        """The model inside `DistributedDataParallel` where there are several processes."""
        self.model, optimizer = self.accelerator.prepare(model, optimizer)
        return self.model, optimizer

    @property
    def average_gradients(self) -> Callable[[nn.Module], None] | None:
        """Averages the gradients of all processes, once a step; None in a single process."""
        return average_gradients if self.accelerator.num_processes > 1 else None

    def no_sync(self) -> AbstractContextManager[None]:
        """Context of every backward: none communicates."""
        return self.accelerator.no_sync(self.model)

    def save_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Write the optimizer's state, the same in all processes, into a checkpoint."""
        if self.accelerator.is_main_process:
            save_state(optimizer.state_dict(), checkpoint / OPTIMIZER)

    def load_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Put back what `save_optimizer` wrote."""
        optimizer.load_state_dict(load_state(checkpoint / OPTIMIZER))


def average_gradients(model: nn.Module) -> None:
    """Average the gradients of all processes in one pass, as DDP would have done; every process must call it.

    A weight that was used in some processes only (rows without images, where the vision tower trains) counts as zero in
    the others; one that was used in none keeps no gradient.
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
    """Neighboring gradients of one precision, at most `BUCKET` entries in each list."""
    buckets: list[list[Tensor]] = []
    room = 0
    for gradient in gradients:
        if not buckets or gradient.dtype != buckets[-1][0].dtype or gradient.numel() > room:
            buckets.append([])
            room = BUCKET
        buckets[-1].append(gradient)
        room -= gradient.numel()
    return buckets
