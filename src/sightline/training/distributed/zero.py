"""DeepSpeed's ZeRO (arXiv:1910.02054): its settings, its step, and its optimizer's state without pickle.

Stage 1 shards the optimizer over processes, 2 gradients as well, 3 weights too. Left out: offloading, DeepSpeed's own
optimizers, schedules and half precision: what is computed in bfloat16 is autocast's choice, as without DeepSpeed.
"""

import os
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from accelerate import Accelerator, PartialState
from accelerate.utils import DeepSpeedPlugin, DistributedType
from peft import PeftModel
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainingArguments

from sightline.errors import ModelError, RecipeError, UserError
from sightline.forward.features import trains_vision
from sightline.models.families.find import family_of
from sightline.training.checkpoint.files import load_state, save_state
from sightline.training.distributed.sharded import ShardedEngine, decoder_layers, excluded_from_sharding

STAGES = {"zero1": 1, "zero2": 2, "zero3": 3}


class ZeRO(ShardedEngine):
    """DeepSpeed's engine around the model."""

    accelerate_types = (DistributedType.DEEPSPEED,)
    steps_while_clipping = True

    def __init__(self, name: str) -> None:
        super().__init__(name)
        self.stage = STAGES[name]

    def check_installed(self, *, on_cpu: bool) -> None:
        """Raises `RecipeError` where DeepSpeed is missing."""
        super().check_installed(on_cpu=on_cpu)
        if find_spec("deepspeed") is None:
            raise RecipeError(
                f"`engine: {self.name}` needs DeepSpeed, which is not installed. Install it with `pip install "
                "'sightline[deepspeed]'`, or use `engine: fsdp2`, which needs nothing."
            )

    def check_model(self, model: nn.Module, reference: str | None) -> None:
        """Raises `RecipeError` where DeepSpeed would not give the curve of one process, or not end.

        Its optimizer steps flat pieces of many weights: one that no row of a step reached moves by its momentum, while
        elsewhere it stays. reference: how it is kept (`frozen-copy`), or None.
        """
        family = family_of(model)
        copied = reference == "frozen-copy" and isinstance(model, PeftModel)
        refused = {
            "trains the vision tower or the projector, which steps without images do not reach": trains_vision(family),
            f"trains a {family.name} model, whose rows without images skip layers": (
                len({*map(type, decoder_layers(model))}) > 1
            ),
            "compares with a frozen copy that shares its weights with a policy that is sharded": (
                copied and self.stage == 3
            ),
        }
        for what, is_so in refused.items():
            if is_so:
                raise RecipeError(f"This recipe {what}. DeepSpeed cannot do that: use `engine: fsdp2`, or `ddp`.")

    def check_accelerate(self, accelerator: Any) -> None:
        """Raises `UserError` where accelerate runs another engine than this one, or another stage."""
        super().check_accelerate(accelerator)
        stage = accelerator.state.deepspeed_plugin.zero_stage
        if stage != self.stage:
            raise UserError(f"{self.name} was requested, but DeepSpeed runs ZeRO stage {stage}.")

    @contextmanager
    def selected(self, arguments: TrainingArguments) -> Iterator[None]:
        """Within, a Trainer that is made with these arguments runs DeepSpeed, on CPUs too."""
        from transformers.integrations.deepspeed import HfTrainerDeepSpeedConfig, unset_hf_deepspeed_config

        if arguments.device.type == "cpu":
            # it would be compiled on the spot, and serves inference
            import deepspeed.ops  # pyright: ignore[reportMissingImports]

            deepspeed.ops.__compatible_ops__["deepspeed_shm_comm"] = False
        os.environ.pop("ACCELERATE_CONFIG_DS_FIELDS", None)  # what `accelerate launch` set besides the stage
        config = HfTrainerDeepSpeedConfig(
            settings(self.stage, max_grad_norm=arguments.max_grad_norm, bf16=arguments.bf16)
        )
        # else transformers would take every model that is read or generates from now on for a sharded one
        unset_hf_deepspeed_config()
        arguments.hf_deepspeed_config = config
        arguments.deepspeed_plugin = DeepSpeedPlugin(hf_ds_config=config)
        PartialState().distributed_type = DistributedType.DEEPSPEED
        before = os.environ.get("ACCELERATE_USE_DEEPSPEED")
        os.environ["ACCELERATE_USE_DEEPSPEED"] = "true"
        try:
            yield
        finally:
            unset_hf_deepspeed_config()
            if before is None:
                del os.environ["ACCELERATE_USE_DEEPSPEED"]

    def join(self, accelerator: Accelerator, arguments: TrainingArguments) -> None:
        """Work with this accelerator from now on. Raises `UserError` where it runs another engine."""
        super().join(accelerator, arguments)
        from deepspeed.utils import logger  # pyright: ignore[reportMissingImports]

        logger.setLevel(arguments.get_process_log_level())

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, frozen_copy: nn.Module | None
    ) -> tuple[nn.Module, Optimizer]:
        """DeepSpeed's engine around the model, and its optimizer."""
        if self.stage == 3:
            _gather_by_layer(model)
        with self._only_sharded(model):
            self.model, optimizer = self.accelerator.prepare(model, optimizer)
        return self.model, optimizer

    def autocast(self) -> AbstractContextManager:
        """Context of every forward; accelerate leaves precision to DeepSpeed, whose settings leave it to autocast."""
        arguments = self.arguments
        return torch.autocast(arguments.device.type, torch.bfloat16, enabled=arguments.bf16, cache_enabled=False)

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradient to what the step has; accelerate would have DeepSpeed take a step each time."""
        engine: Any = self.model
        engine.backward(loss, scale_wrt_gas=False)

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Take the step, with clipped gradients; their norm before that.

        DeepSpeed knows the norm when its step is taken, and takes none where it is NaN or Inf.
        """
        engine: Any = self.model
        with self._only_sharded(engine.module):
            engine.step()
        return engine.get_global_grad_norm()

    def discard_gradients(self) -> None:
        """Nothing: DeepSpeed keeps what it has accumulated, which is zeros where this is called."""

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within, every process holds all weights, and may call the model as often as it likes.

        Every process enters.
        """
        if self.stage < 3:
            yield
            return
        import deepspeed  # pyright: ignore[reportMissingImports]

        engine: Any = self.model
        offload = engine.optimizer.parameter_offload
        weights = [weight for weight in engine.module.parameters() if hasattr(weight, "ds_id")]
        with deepspeed.zero.GatheredParameters(weights):
            taken = []
            # hooks give weights back after each layer, and compare the order of calls with the other processes
            for handle in [offload.fwd_pre_hook, *offload.forward_hooks, *offload.backward_hooks]:
                hooks = handle.hooks_dict_ref()
                taken.append((hooks, handle.id, hooks.pop(handle.id)))
            try:
                yield
            finally:
                for hooks, number, hook in taken:
                    hooks[number] = hook

    @contextmanager
    def whole(self, weight: Tensor) -> Iterator[Tensor]:
        """Within, all of a weight; not to be changed. Every process enters."""
        if not hasattr(weight, "ds_id") or weight.ds_status.name == "AVAILABLE":
            yield weight.detach()
            return
        import deepspeed  # pyright: ignore[reportMissingImports]

        with deepspeed.zero.GatheredParameters([weight]):
            yield weight.detach().clone()

    def save_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Write this process's part of the optimizer's state into a checkpoint; weights are saved with the model."""
        engine: Any = self.model
        inner = engine.optimizer.optimizer
        groups = [{key: value for key, value in group.items() if key != "params"} for group in inner.param_groups]
        state = [dict(inner.state.get(part, {})) for part in self._parts()]
        save_state({"state": state, "groups": groups}, self.optimizer_file(checkpoint))

    def load_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Put back what `save_optimizer` wrote."""
        engine: Any = self.model
        saved, inner = load_state(self.optimizer_file(checkpoint)), engine.optimizer.optimizer
        for group, values in zip(inner.param_groups, saved["groups"], strict=True):
            group.update(values)
        for part, state in zip(self._parts(), saved["state"], strict=True):
            if state:
                inner.state[part] = {name: _placed(name, value, part) for name, value in state.items()}

    def _only_sharded(self, model: nn.Module) -> AbstractContextManager[None]:
        """Stage 3 takes every weight that it finds for one that it sharded."""
        return excluded_from_sharding(model) if self.stage == 3 else nullcontext()

    def _parts(self) -> list[Tensor]:
        """The flat weights that this process updates."""
        optimizer: Any = self.model.optimizer
        return optimizer.fp32_partitioned_groups_flat if self.stage == 3 else optimizer.single_partition_of_fp32_groups


def settings(stage: int, *, max_grad_norm: float, bf16: bool) -> dict[str, Any]:
    """DeepSpeed's configuration.

    Backwards accumulate until the step is taken: how many there are is not known before. Nothing is gathered ahead
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


def _gather_by_layer(model: nn.Module) -> None:
    """Have stage 3 gather a layer of the language model at a time: fused layers read weights of their neighbors."""
    from deepspeed.utils import set_z3_leaf_modules  # pyright: ignore[reportMissingImports]

    layers = decoder_layers(model)
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


def _placed(name: str, value: Any, part: Tensor) -> Any:
    """A value of an optimizer's state beside the weights that it belongs to; the step count stays on the CPU."""
    return value.to(part.device) if isinstance(value, Tensor) and name != "step" else value
