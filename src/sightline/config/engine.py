"""How many processes train together, and by which engine."""

import re
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from sightline.config import Recipe
else:
    Recipe = Any

Engine = Literal["auto", "ddp", "fsdp2", "zero1", "zero2", "zero3"]
"""What keeps the processes in step; they are torch's and DeepSpeed's, through accelerate."""
SHARD_WEIGHTS: tuple[Engine, ...] = ("fsdp2", "zero3")
"""Engines that shard weights, besides gradients and optimizer states."""


def refused_with_sharding(recipe: Recipe) -> str | None:
    """What this recipe asks that no engine does which shards anything, with the reason; None where there is nothing."""
    refused = {
        "`model.quantize`: quantized weights cannot be sharded": recipe.model.quantize != "none",
        "`evaluation.tasks` (score checkpoints by `sightline evaluate`): no process holds the whole model": (
            recipe.evaluation.tasks != []
        ),
        "`reference.update_every`: a moving reference follows whole weights": recipe.reference.update_every is not None,
        "`lora.target_modules` with `experts`: adapters on stacked weights are not tested with sharded ones": (
            recipe.lora is not None and recipe.lora.adapts_experts
        ),
        f"`optim: {recipe.optim}`: only adamw_torch, adamw_torch_fused and sgd are tested with sharded weights": (
            re.fullmatch("adamw_torch(_fused)?|sgd", recipe.optim) is None
        ),
    }
    return next((what for what, is_asked in refused.items() if is_asked), None)
