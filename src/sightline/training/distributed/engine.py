"""The engine that keeps several processes in step: which one was asked for, whether it is at work, what it cannot do.

accelerate shards on GPUs only: on CPUs it turns FSDP into DDP in silence, although torch's own FSDP2 does not mind.
"""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType
from transformers import TrainingArguments

from sightline.config import Recipe
from sightline.config.engine import Engine
from sightline.errors import RecipeError, UserError
from sightline.training.distributed.zero import STAGES, deepspeed_at_work

KINDS = {
    "ddp": (DistributedType.NO, DistributedType.MULTI_GPU, DistributedType.MULTI_CPU),
    "fsdp2": (DistributedType.FSDP,),
    **dict.fromkeys(STAGES, (DistributedType.DEEPSPEED,)),
}
"""What accelerate calls them."""


def asked_engine(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Engine:
    """The engine that the recipe names, else the one that `accelerate launch` was told. Raises `UserError`."""

    def told(name: str) -> bool:
        return environment.get(name, "").lower() == "true"

    if recipe.engine != "auto":
        return recipe.engine
    if told("ACCELERATE_USE_DEEPSPEED"):
        return _told_zero(environment)
    if not told("ACCELERATE_USE_FSDP"):
        return "ddp"
    for name, unsaid, wanted in (("FSDP_VERSION", "1", "2"), ("FSDP_CPU_RAM_EFFICIENT_LOADING", "false", "false")):
        if environment.get(name, unsaid).lower() != wanted:
            raise UserError(
                f"accelerate was told {name.lower()}: {environment.get(name, unsaid)}, but Sightline runs FSDP with "
                f"{name.lower()}: {wanted} only. Take recipes/accelerate/fsdp2.yaml (`sightline recipe copy fsdp2`)."
            )
    return "fsdp2"


def _told_zero(environment: Mapping[str, str]) -> Engine:
    """The stage that `accelerate launch` was told; of its configuration, nothing else is used."""
    more = {
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": "a deepspeed_config_file",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    }
    for name, what in more.items():
        if environment.get(name, "none").lower() not in ("none", ""):
            raise UserError(
                f"accelerate was told {what}, but Sightline gives DeepSpeed its own settings, without offloading. Take "
                "recipes/accelerate/zero1.yaml, zero2.yaml or zero3.yaml (`sightline recipe copy zero2`)."
            )
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    for engine, number in STAGES.items():
        if stage == str(number):
            return engine
    raise UserError(f"accelerate was told zero_stage: {stage}, but DeepSpeed has 1, 2 and 3.")


def refuse_what_shards_cannot(recipe: Recipe, num_processes: int) -> None:
    """Raises `UserError` before anything is loaded where the recipe asks of an engine what it does not do."""
    engine = asked_engine(recipe)
    if engine == "ddp":
        return
    if num_processes == 1:
        raise UserError(
            f"`engine: {engine}` spreads a model over processes, but one process trains. Start more "
            "(`--nproc-per-node 8`, or a launcher), or leave `engine` out."
        )
    refused = {
        "`model.quantize`: quantised weights cannot be spread": recipe.model.quantize != "none",
        "`evaluation.tasks` (score checkpoints by `sightline evaluate`): no process holds the whole model": (
            recipe.evaluation.tasks != []
        ),
        "`reference.update_every`: a moving reference follows whole weights": recipe.reference.update_every is not None,
        f"`optim: {recipe.optim}`: only adamw_torch, adamw_torch_fused and sgd are proved for spread weights": (
            re.fullmatch("adamw_torch(_fused)?|sgd", recipe.optim) is None
        ),
    }
    for what, is_asked in refused.items():
        if is_asked:
            raise RecipeError(f"{what} under `engine: {engine}`. Leave it out, or take `engine: ddp`.")


@contextmanager
def engine_at_work(arguments: TrainingArguments, engine: Engine) -> Iterator[None]:
    """Within, a Trainer that is made with these arguments runs the engine, in a world of CPU processes too."""
    if engine == "fsdp2" and arguments.use_cpu:
        assert PartialState._shared_state["distributed_type"] == DistributedType.MULTI_CPU
        PartialState._shared_state["distributed_type"] = DistributedType.MULTI_GPU
    with deepspeed_at_work(arguments, STAGES[engine]) if engine in STAGES else nullcontext():
        yield


def check_engine(accelerator: Any, recipe: Recipe) -> str:
    """The engine at work. Raises `UserError` where it is not the one that was asked for."""
    asked, kind = asked_engine(recipe), accelerator.distributed_type
    if kind not in KINDS[asked]:
        raise UserError(
            f"{asked} was asked for, but accelerate runs {kind.value} with {accelerator.num_processes} processes. "
            "Start with `sightline train RECIPE --nproc-per-node N`, torchrun, or recipes/accelerate (`sightline "
            "recipe list`)."
        )
    if asked in STAGES and accelerator.state.deepspeed_plugin.zero_stage != STAGES[asked]:
        stage = accelerator.state.deepspeed_plugin.zero_stage
        raise UserError(f"{asked} was asked for, but DeepSpeed runs ZeRO stage {stage}.")
    return "one process" if accelerator.num_processes == 1 else asked
