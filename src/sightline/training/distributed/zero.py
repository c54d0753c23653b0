"""DeepSpeed's ZeRO (arXiv:1910.02054): what its engine is told, its step, and its optimizer's state without pickle.

Stage 1 spreads the optimizer over processes, 2 gradients as well, 3 weights too. Left out: offloading, DeepSpeed's own
optimizers, schedules and half precision: what is computed in bfloat16 is autocast's choice, as without DeepSpeed.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from accelerate import PartialState
from accelerate.utils import DeepSpeedPlugin, DistributedType
from peft import PeftModel
from torch import Tensor, nn
from transformers import TrainingArguments

from sightline.errors import ModelError, RecipeError
from sightline.forward.features import trains_vision
from sightline.models.families.find import family_of
from sightline.models.sharded import kept_whole
from sightline.training.checkpoint.files import load_state, save_state

Zero = Literal["zero1", "zero2", "zero3"]
STAGES: dict[Zero, int] = {"zero1": 1, "zero2": 2, "zero3": 3}


def check_installed(engine: str, *, on_cpu: bool) -> None:
    """Raises `RecipeError` where DeepSpeed is needed and missing."""
    if on_cpu:
        os.environ.setdefault("DS_ACCELERATOR", "cpu")  # it complains of missing GPUs as soon as it is imported
    if engine in STAGES and find_spec("deepspeed") is None:
        raise RecipeError(
            f"`engine: {engine}` needs DeepSpeed, which is not installed. Install it with `pip install "
            "'sightline[deepspeed]'`, or use `engine: fsdp2`, which needs nothing."
        )


def settings(stage: int, *, max_grad_norm: float, bf16: bool) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Backwards accumulate until the step is asked for: how many there are is not known before. Nothing is gathered ahead
    of time, because processes do not all call the same modules (the reference's forwards have no adapters).
    """
    autocast = {"enabled": True, "dtype": "bfloat16", "lower_precision_safe_modules": []}
    return {
        "train_micro_batch_size_per_gpu": 1,
        "gradient_accumulation_steps": 1,
        "managed_gradient_accumulation": False,
        "gradient_clipping": max_grad_norm,
        "steps_per_print": 2**62,
        "zero_allow_untested_optimizer": True,
        "bf16": {"enabled": False},
        "fp16": {"enabled": False},
        **({"torch_autocast": autocast} if bf16 else {}),
        "zero_optimization": {
            "stage": stage,
            "overlap_comm": False,
            "stage3_prefetch_bucket_size": 0,
            "stage3_param_persistence_threshold": 0,
            "stage3_max_reuse_distance": 0,
        },
    }


@contextmanager
def deepspeed_at_work(arguments: TrainingArguments, stage: int) -> Iterator[None]:
    """Within, a Trainer that is made with these arguments runs DeepSpeed, on CPUs too."""
    from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

    if arguments.device.type == "cpu":
        # it would be compiled on the spot, and serves inference
        import deepspeed.ops  # pyright: ignore[reportMissingImports]

        deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
    os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)  # what `accelerate launch` was told besides the stage
    told = settings(stage, max_grad_norm=arguments.max_grad_norm, bf16=arguments.bf16)
    config = HfTrainerDeepSpeedConfig(told)
    # else transformers would take every model that is read or answers from now on for a spread one
    unset_hf_deepspeed_config()
    arguments.hf_deepspeed_config = config
    arguments.deepspeed_plugin = DeepSpeedPlugin(hf_ds_config=config)
    PartialState._shared_state["distributed_type"] = DistributedType.DEEPSPEED
    before = os.environ.get("ACCELERATE_USE_DEEPSPEED")
    os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
    try:
        yield
    finally:
        unset_hf_deepspeed_config()
        if before is None:
            del os.environ["ACCELERATE_USE_DEEPSPEED"]


def refuse_model(model: nn.Module, reference: str | None, engine: str) -> None:
    """Raises `RecipeError` where DeepSpeed would not give the curve of one process, or not end.

    Its optimizer steps flat pieces of many weights: one that no row of a step reached moves by its momentum, while
    elsewhere it stays. model: as it is trained, before DeepSpeed has it; a model on the meta device will do.
    reference: how it is kept (`frozen-copy`), or None.
    """
    if engine not in STAGES:
        return
    family = family_of(model)
    layers: Any = family.model.get_decoder().layers
    copied = reference == "frozen-copy" and isinstance(model, PeftModel)
    refused = {
        "trains the vision tower or the projector, which steps without pictures do not reach": trains_vision(family),
        f"trains a {family.name} model, whose rows without pictures pass layers by": len({*map(type, layers)}) > 1,
        "compares with a frozen copy that shares its weights with a policy that is spread": (
            copied and engine == "zero3"
        ),
    }
    for what, is_so in refused.items():
        if is_so:
            raise RecipeError(f"This recipe {what}. DeepSpeed cannot do that: use `engine: fsdp2`, or `ddp`.")


def gather_by_layer(model: nn.Module) -> None:
    """Have stage 3 gather a layer of the language model at a time: fused layers read weights of their neighbours."""
    from deepspeed.utils import set_z3_leaf_modules  # pyright: ignore[reportMissingImports]

    layers: Any = family_of(model).model.get_decoder().layers
    set_z3_leaf_modules(model, list({type(layer) for layer in layers}))
    # a layer counts as done when its input has a gradient, or at once where its input needs none
    layers[0].register_forward_pre_hook(_want_gradient)


def _want_gradient(module: nn.Module, inputs: tuple[Any, ...]) -> None:
    if not inputs or not isinstance(inputs[0], Tensor):
        raise ModelError(
            f"{type(module).__name__} takes its states by name: DeepSpeed cannot tell when its backward is done. Use "
            "`engine: fsdp2`."
        )
    if torch.is_grad_enabled() and not inputs[0].requires_grad:
        inputs[0].requires_grad_()


def step(engine: Any) -> Tensor:
    """Take the step, with clipped gradients; the norm before clipping. Infinite where the step was not taken."""
    # DeepSpeed takes every weight that it finds for one that it spread
    with kept_whole(engine.module) if engine.zero_optimization_stage() == 3 else nullcontext():
        engine.step()
    engine.optimizer.overflow = False  # a step that is left out moves the schedule, as everywhere
    return engine.get_global_grad_norm()


def save_optimizer(engine: Any, path: Path) -> None:
    """This process's part of the optimizer's state; weights are saved with the model."""
    optimizer = engine.optimizer.optimizer
    groups = [{key: value for key, value in group.items() if key != "params"} for group in optimizer.param_groups]
    state = [dict(optimizer.state.get(part, {})) for part in _parts(engine)]
    save_state({"state": state, "groups": groups}, path)


def load_optimizer(engine: Any, path: Path) -> None:
    """Put back what `save_optimizer` wrote."""
    saved, optimizer = load_state(path), engine.optimizer.optimizer
    for group, values in zip(optimizer.param_groups, saved["groups"], strict=True):
        group.update(values)
    for part, state in zip(_parts(engine), saved["state"], strict=True):
        if state:
            optimizer.state[part] = {name: _placed(name, value, part) for name, value in state.items()}


def _parts(engine: Any) -> list[Tensor]:
    """The flat weights that this process updates."""
    spread = engine.zero_optimization_stage() == 3
    return engine.optimizer.fp32_partitioned_groups_flat if spread else engine.optimizer.single_partition_of_fp32_groups


def _placed(name: str, value: Any, part: Tensor) -> Any:
    return value.to(part.device) if isinstance(value, Tensor) and name != "step" else value
