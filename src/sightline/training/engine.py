"""The engine that keeps several processes in step: which one was asked for, whether it is at work, what it cannot do.

accelerate shards on GPUs only: on CPUs it turns FSDP into DDP in silence, although torch's own FSDP2 does not mind.
"""

import os
import re
from collections.abc import Mapping
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType

from sightline.config import Recipe
from sightline.config.engine import Engine
from sightline.errors import RecipeError, UserError

KINDS = {
    "ddp": (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU),
    "fsdp2": (DistributedType.FSDP,),
}
"""What accelerate calls them."""


def asked_engine(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Engine:
    """The engine that the recipe names, else the one that `accelerate launch` was told. Raises `UserError`."""

    def told(name: str) -> bool:
        return environment.get(name, "").lower() == "true"

    if told("ACCELERATE_USE_DEEPSPEED"):
        raise UserError(
            "accelerate was told to run DeepSpeed, whose curve is not proved equal. Use `distributed_type: FSDP` "
            "(recipes/accelerate/fsdp2.yaml) for models that one GPU does not hold, else MULTI_GPU."
        )
    if recipe.engine != "auto":
        return recipe.engine
    if not told("ACCELERATE_USE_FSDP"):
        return "ddp"
    for name, unsaid, wanted in (("FSDP_VERSION", "1", "2"), ("FSDP_CPU_RAM_EFFICIENT_LOADING", "false", "false")):
        if environment.get(name, unsaid).lower() != wanted:
            raise UserError(
                f"accelerate was told {name.lower()}: {environment.get(name, unsaid)}, but Sightline runs FSDP with "
                f"{name.lower()}: {wanted} only. Take recipes/accelerate/fsdp2.yaml."
            )
    return "fsdp2"


def refuse_what_shards_cannot(recipe: Recipe, num_processes: int) -> None:
    """Raises `UserError` before anything is loaded where the recipe asks of an engine what it does not do."""
    if asked_engine(recipe) != "fsdp2":
        return
    if num_processes == 1:
        raise UserError(
            "`engine: fsdp2` spreads a model over processes, but one process trains. Start more (`--nproc-per-node 8`, "
            "or a launcher), or leave `engine` out."
        )
    refused = {
        "`model.quantize`: quantised weights cannot be spread": recipe.model.quantize != "none",
        "`reference.update_every`: a moving reference follows whole weights": recipe.reference.update_every is not None,
        f"`optim: {recipe.optim}`: only adamw_torch, adamw_torch_fused and sgd are proved for spread weights": (
            re.fullmatch("adamw_torch(_fused)?|sgd", recipe.optim) is None
        ),
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise RecipeError(f"{what} under `engine: fsdp2`. Leave it out, or take `engine: ddp`.")


def shard_on_cpu() -> None:
    """Have accelerate shard in a world of CPU processes too. Call after `TrainingArguments`, before the Trainer."""
    assert PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU
    PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU


def check_engine(accelerator: Any, recipe: Recipe) -> str:
    """The engine at work. Raises `UserError` where it is not the one that was asked for."""
    asked, kind = asked_engine(recipe), accelerator.distributed_type
    if kind not in KINDS[asked]:
        raise UserError(
            f"{asked} was asked for, but accelerate runs {kind.value} with {accelerator.num_processes} processes. "
            "Start with `sightline train RECIPE --nproc-per-node N`, torchrun, or recipes/accelerate."
        )
    return "one process" if accelerator.num_processes == 1 else asked
