"""Which engine a run gets: the one that the recipe names, else the one that `accelerate launch` was configured for."""

import os
from collections.abc import Mapping

from sightline.config import Recipe
from sightline.errors import UserError
from sightline.training.distributed.ddp import DDP
from sightline.training.distributed.engine import Engine
from sightline.training.distributed.fsdp2 import FSDP2
from sightline.training.distributed.zero import STAGES, ZeRO


def requested_engine(recipe: Recipe, environment: Mapping[str, str] = os.environ) -> Engine:
    """The engine that the recipe names, else the one in the environment of `accelerate launch`. Raises `UserError`."""
    name = recipe.engine if recipe.engine != "auto" else _launched_engine(environment)
    if name == "ddp":
        return DDP(name)
    return FSDP2(name) if name == "fsdp2" else ZeRO(name)


def _launched_engine(environment: Mapping[str, str]) -> str:
    """The engine of `accelerate launch`, by the variables that it sets for its processes."""

    def is_set(name: str) -> bool:
        return environment.get(name, "").lower() == "true"

    if is_set("ACCELERATE_USE_DEEPSPEED"):
        return _launched_zero(environment)
    if not is_set("ACCELERATE_USE_FSDP"):
        return "ddp"
    for name, default, wanted in (("FSDP_VERSION", "1", "2"), ("FSDP_CPU_RAM_EFFICIENT_LOADING", "false", "false")):
        if environment.get(name, default).lower() != wanted:
            raise UserError(
                f"accelerate's configuration has {name.lower()}: {environment.get(name, default)}, but Sightline runs "
                f"FSDP with {name.lower()}: {wanted} only. Take recipes/accelerate/fsdp2.yaml (`sightline recipe copy "
                "fsdp2`)."
            )
    return "fsdp2"


def _launched_zero(environment: Mapping[str, str]) -> str:
    """The stage in accelerate's configuration; nothing else of it is used."""
    refused = {
        "ACCELERATE_DEEPSPEED_CONFIG_FILE": "a deepspeed_config_file",
        "ACCELERATE_DEEPSPEED_OFFLOAD_OPTIMIZER_DEVICE": "offload_optimizer_device",
        "ACCELERATE_DEEPSPEED_OFFLOAD_PARAM_DEVICE": "offload_param_device",
    }
    for name, what in refused.items():
        if environment.get(name, "none").lower() not in ("none", ""):
            raise UserError(
                f"accelerate's configuration has {what}, but Sightline gives DeepSpeed its own settings, without "
                "offloading. Take recipes/accelerate/zero1.yaml, zero2.yaml or zero3.yaml (`sightline recipe copy "
                "zero2`)."
            )
    stage = environment.get("ACCELERATE_DEEPSPEED_ZERO_STAGE", "2")
    for engine, number in STAGES.items():
        if stage == str(number):
            return engine
    raise UserError(f"accelerate's configuration has zero_stage: {stage}, but DeepSpeed has 1, 2 and 3.")
