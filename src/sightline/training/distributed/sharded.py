"""The Trainer where FSDP2 or DeepSpeed shard weights, gradients and optimizer over processes; and DDP's one all-reduce.

Weights of a checkpoint are loaded before they are sharded; each process saves its own part of the optimizer as
safetensors. DDP averages inside the last backward, where a process that runs out of memory would leave the others
waiting: here gradients are averaged once, after every micro-batch is done.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from accelerate.utils.fsdp_utils import fsdp2_prepare_model
from torch import Tensor, nn
from torch.distributed.tensor import DTensor

from sightline.forward.reference import AnyReference, Reference
from sightline.models.sharded import gathered, kept_whole, layer_class, whole_state
from sightline.training.checkpoint.files import load_state, save_state
from sightline.training.checkpoint.trainer import SCHEDULER, CheckpointingTrainer
from sightline.training.distributed import zero
from sightline.training.distributed.world import stopping_together

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


class ShardedTrainer(CheckpointingTrainer):
    """What FSDP2 and DeepSpeed need to be told; nothing changes for one process and for DDP."""

    reference: AnyReference | None

    def train(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's. `OutOfMemory` of one process ends all: they would wait for its part of a forward."""
        is_spread = self.is_fsdp_enabled or self.is_deepspeed_enabled
        with stopping_together(self.args.world_size) if is_spread else nullcontext():
            return super().train(*args, **kwargs)

    def _prepare_for_training(self, max_steps: int, train_dataloader: Any, resume_from_checkpoint: str | None) -> Any:
        if self.is_deepspeed_enabled:
            return self._prepare_deepspeed(max_steps, train_dataloader, resume_from_checkpoint)
        if not self.is_fsdp_enabled:
            return super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        plugin = self.accelerator.state.fsdp_plugin
        assert self.model is not None and plugin is not None
        plugin.transformer_cls_names_to_wrap = [layer_class(self.model)]
        # what is computed in bfloat16 is autocast's choice, as without FSDP; gradients are summed in float32
        plugin.mixed_precision_policy = None
        if resume_from_checkpoint is not None:
            self._load_whole_weights(resume_from_checkpoint)
        with kept_whole(self.model):
            prepared = super()._prepare_for_training(max_steps, train_dataloader, resume_from_checkpoint)
        copy = self._copied_reference()
        if copy is not None:
            with kept_whole(copy):
                spread: Any = fsdp2_prepare_model(self.accelerator, copy)
            spread.set_reshard_after_forward(True)  # no backward follows, behind which the last layers would be
        return prepared

    def _copied_reference(self) -> nn.Module | None:
        """The frozen copy that the policy is compared with, if it is."""
        reference = self.reference
        return reference.model if isinstance(reference, Reference) and reference.mode == "frozen-copy" else None

    def _prepare_deepspeed(self, max_steps: int, train_dataloader: Any, checkpoint: str | None) -> Any:
        assert self.model is not None
        if checkpoint is not None:
            super()._load_from_checkpoint(checkpoint)
        plugin = self.accelerator.state.deepspeed_plugin
        spreads_weights = plugin is not None and plugin.zero_stage == 3
        if spreads_weights:
            zero.gather_by_layer(self.model)
        with kept_whole(self.model) if spreads_weights else nullcontext():
            # without the checkpoint: DeepSpeed's own would be pickled
            prepared = super()._prepare_for_training(max_steps, train_dataloader, None)
        if checkpoint is not None:
            self._load_optimizer_and_scheduler(checkpoint)
        return prepared

    def _load_whole_weights(self, checkpoint: str) -> None:
        self.is_fsdp_enabled = False
        try:
            super()._load_from_checkpoint(checkpoint)
        finally:
            self.is_fsdp_enabled = True

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        if not self.is_fsdp_enabled:  # else they were loaded before they were spread
            super()._load_from_checkpoint(resume_from_checkpoint, model)

    def save_model(self, output_dir: str | None = None, _internal_call: bool = False) -> None:
        """As the library's; of a spread model the adapter alone is gathered where one is trained."""
        if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            super().save_model(output_dir, _internal_call)
            return
        assert self.model is not None
        self._save(output_dir, state_dict=whole_state(self.model, keep=self.args.should_save))

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        if not self.is_fsdp_enabled and not self.is_deepspeed_enabled:
            super()._save_optimizer_and_scheduler(output_dir)
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        Path(output_dir).mkdir(parents=True, exist_ok=True)
        own = Path(output_dir) / optimizer_file(self.args.process_index)
        if self.is_deepspeed_enabled:
            zero.save_optimizer(self.deepspeed, own)
        else:
            save_state(_local(self.optimizer.state_dict()), own)
        if self.args.should_save:
            save_state(self.lr_scheduler.state_dict(), Path(output_dir) / SCHEDULER)

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        if self.is_deepspeed_enabled and checkpoint is not None:
            assert self.lr_scheduler is not None
            zero.load_optimizer(self.deepspeed, Path(checkpoint) / optimizer_file(self.args.process_index))
            self.lr_scheduler.load_state_dict(load_state(Path(checkpoint) / SCHEDULER))
            return
        if checkpoint is None or not self.is_fsdp_enabled:
            super()._load_optimizer_and_scheduler(checkpoint)
            return
        assert self.optimizer is not None and self.lr_scheduler is not None
        state = load_state(Path(checkpoint) / optimizer_file(self.args.process_index))
        weights = [weight for group in self.optimizer.param_groups for weight in group["params"]]
        numbers = [number for group in state["param_groups"] for number in group["params"]]
        for number, weight in zip(numbers, weights, strict=True):
            own = state["state"].get(number, {})
            state["state"][number] = {name: _like(value, weight) for name, value in own.items()}
        self.optimizer.load_state_dict(state)
        self.lr_scheduler.load_state_dict(load_state(Path(checkpoint) / SCHEDULER))

    @contextmanager
    def all_weights(self) -> Iterator[None]:
        """Within, every process holds all weights, the reference's too. Every process enters."""
        assert self.model_wrapped is not None
        with gathered(self.model_wrapped), gathered(self._copied_reference() or nn.Identity()):
            yield

    def _evaluate(self, *args: Any, **kwargs: Any) -> Any:
        """As the library's, with all weights in every process: held-out rows need not come out even."""
        with self.all_weights():
            return super()._evaluate(*args, **kwargs)

    def evaluate_at_end(self) -> None:
        """The same behind the last step."""
        with self.all_weights():
            self.evaluate()

    def _no_sync(self) -> AbstractContextManager:
        """Context of every backward of a step but the last."""
        if self.is_fsdp_enabled or self.is_deepspeed_enabled:
            return nullcontext()  # gradients that are not reduced at once would be whole ones
        return self.accelerator.no_sync(self.model_wrapped)

    def _autocast(self) -> AbstractContextManager:
        """Context of every forward; accelerate leaves precision to DeepSpeed, which is told to leave it to autocast."""
        if self.is_deepspeed_enabled:
            return torch.autocast(self.args.device.type, torch.bfloat16, enabled=self.args.bf16, cache_enabled=False)
        return self.compute_loss_context_manager()

    def _backward(self, loss: Tensor) -> None:
        """Add a loss's gradient to what the step has; accelerate would have DeepSpeed take a step each time."""
        if self.is_deepspeed_enabled:
            engine: Any = self.deepspeed
            engine.backward(loss, scale_wrt_gas=False)
        else:
            self.accelerator.backward(loss)

    def _get_grad_norm(self, model: nn.Module, grad_norm: Any = None) -> Any:
        """As the library's. DeepSpeed knows it when its step is taken, and takes none where it is NaN or Inf."""
        if self.is_deepspeed_enabled:
            return zero.step(self.deepspeed)
        return super()._get_grad_norm(model, grad_norm)


def optimizer_file(index: int) -> str:
    """The file of a checkpoint that holds one process's part of the optimizer."""
    return f"optimizer-{index}.safetensors"


def _local(value: Any) -> Any:
    """The same tree with this process's part of every spread tensor."""
    if isinstance(value, DTensor):
        return value.to_local()
    if isinstance(value, dict):
        return {key: _local(item) for key, item in value.items()}
    return [_local(item) for item in value] if isinstance(value, list) else value


def _like(value: Any, weight: Tensor) -> Any:
    """A part of an optimizer's tensor, spread as its weight is; numbers such as the step count stay as they are."""
    if not isinstance(weight, DTensor) or not isinstance(value, Tensor) or value.dim() == 0:
        return value
    placed = value.to(weight.to_local().device)
    return DTensor.from_local(
        placed, weight.device_mesh, weight.placements, shape=weight.shape, stride=weight.stride(), run_check=False
    )
