"""torch's FSDP2: weights, gradients and optimizer sharded over processes, one layer of the language model at a time.

accelerate shards on GPUs only: on CPUs it turns FSDP into DDP in silence, although torch's own FSDP2 does not mind.
"""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from accelerate import PartialState
from accelerate.utils import DistributedType
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, register_fsdp_forward_method
from torch.distributed.tensor import DTensor
from torch.optim import Optimizer
from transformers import TrainingArguments

from sightline.training.checkpoint.files import load_state, save_state
from sightline.training.distributed.sharded import ShardedEngine, decoder_layers, excluded_from_sharding


class FSDP2(ShardedEngine):
    """torch's `fully_shard`, by accelerate."""

    accelerate_types = (DistributedType.FSDP,)
    frozen_copy: nn.Module | None = None

    @contextmanager
    def selected(self, arguments: TrainingArguments) -> Iterator[None]:
        """Within, a Trainer that is made with these arguments runs FSDP2, with processes on CPUs too."""
        if arguments.use_cpu:
            # all instances of PartialState are one
            assert PartialState().distributed_type == DistributedType.MULTI_CPU
            PartialState().distributed_type = DistributedType.MULTI_GPU
        yield

    def prepare(
        self, model: nn.Module, optimizer: Optimizer, frozen_copy: nn.Module | None
    ) -> tuple[nn.Module, Optimizer]:
        """The same model, its weights sharded in place; those of the frozen copy as well."""
        plugin = self.accelerator.state.fsdp_plugin
        assert plugin is not None
        plugin.transformer_cls_names_to_wrap = [type(decoder_layers(model)[0]).__name__]
        # what is computed in bfloat16 is autocast's choice, as without FSDP; gradients are summed in float32
        plugin.mixed_precision_policy = None
        with excluded_from_sharding(model):
            prepared, optimizer = self.accelerator.prepare(model, optimizer)
        assert prepared is model, "FSDP2 changes a model in place"
        if hasattr(model, "generate"):
            register_fsdp_forward_method(model, "generate")
        if frozen_copy is not None:
            with excluded_from_sharding(frozen_copy):
                sharded: Any = fsdp2_prepare_model(self.accelerator, frozen_copy)
            sharded.set_reshard_after_forward(True)  # no backward follows that would want the last layers
        self.model, self.frozen_copy = model, frozen_copy
        return model, optimizer

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Clip the step's gradients; their norm before that, of all processes' parts. max_norm: 0 clips nothing."""
        norm = super().clip_gradients(max_norm)
        return norm.full_tensor() if isinstance(norm, DTensor) else norm

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within, every process holds all weights, the reference's too, and may call the model as often as it likes.

        Every process enters.
        """
        with ExitStack() as stack:
            for model in (self.model, self.frozen_copy):
                if model is not None:
                    stack.enter_context(_gathered(model))
            yield

    @contextmanager
    def whole(self, weight: Tensor) -> Iterator[Tensor]:
        """Within, all of a weight; not to be changed. Every process enters."""
        yield weight.detach().full_tensor() if isinstance(weight, DTensor) else weight.detach()

    def save_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Write this process's part of the optimizer's state into a checkpoint."""
        save_state(_local(optimizer.state_dict()), self.optimizer_file(checkpoint))

    def load_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Put back what `save_optimizer` wrote."""
        state = load_state(self.optimizer_file(checkpoint))
        weights = [weight for group in optimizer.param_groups for weight in group["params"]]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            own = state["state"].get(number, {})
            state["state"][number] = {name: _sharded_like(weight, value) for name, value in own.items()}
        optimizer.load_state_dict(state)


@contextmanager
def _gathered(model: nn.Module) -> Iterator[None]:
    """Within, every process holds all weights of a model that FSDP2 shards. Every process enters."""
    assert isinstance(model, FSDPModule)
    # FSDP finds its root at the first forward; parts of the model may be called before that
    model._get_fsdp_state()._lazy_init()
    assert isinstance(model, nn.Module)
    states = [module._get_fsdp_state() for module in model.modules() if isinstance(module, FSDPModule)]
    groups = list({id(group): group for state in states for group in _parameter_groups(state)}.values())
    before = [group.post_forward_mesh_info for group in groups]
    for group in groups:
        group.post_forward_mesh_info = None  # do not shard again after each forward
        group.lazy_init()
        group.unshard()
        group.wait_for_unshard()
    try:
        yield
    finally:
        for group, info in zip(groups, before, strict=True):
            group.post_forward_mesh_info = info
            group.reshard()


def _parameter_groups(state: Any) -> list[Any]:
    """The groups of weights that a module gathers; torch < 2.13 knows one at most."""
    many = getattr(state, "_fsdp_param_groups", None)
    if many is not None:
        return list(many)
    return [] if state._fsdp_param_group is None else [state._fsdp_param_group]


def _local(value: Any) -> Any:
    """The same tree with this process's part of every sharded tensor."""
    if isinstance(value, DTensor):
        return value.to_local()
    if isinstance(value, dict):
        return {key: _local(item) for key, item in value.items()}
    return [_local(item) for item in value] if isinstance(value, list) else value


def _sharded_like(weight: Tensor, value: Any) -> Any:
    """A part of an optimizer's tensor, sharded as its weight is; numbers such as the step count stay as they are."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.dim() == 0:
        return value
    placed = value.to(weight.to_local().device)
    return DTensor.from_local(
        placed, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride(), run_check=False
    )
