"""What FSDP2 and DeepSpeed's ZeRO have in common: they shard weights, gradients or optimizer states over processes.

A forward of such a model gathers weights from all processes, so all of them have to make as many, in the same order.
Frozen vision towers and projectors are excluded from sharding: a process whose rows have no image need not call them.
Weights of a checkpoint are loaded before they are sharded; each process saves its own part of the optimizer.
"""

from abc import abstractmethod
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from peft import PeftModel
from torch import Tensor, nn

from sightline.config import Recipe
from sightline.config.engine import refused_with_sharding
from sightline.errors import RecipeError, UserError
from sightline.models.families.find import family_of
from sightline.training.distributed.engine import Engine
from sightline.training.distributed.world import stop_all_on_out_of_memory


class ShardedEngine(Engine):
    """An engine whose forwards or backwards need all processes."""

    sharded = True

    def check_recipe(self, recipe: Recipe, num_processes: int) -> None:
        """Raises `UserError`, before anything is loaded, where the recipe asks for what sharded weights cannot do."""
        if num_processes == 1:
            raise UserError(
                f"`engine: {self.name}` shards a model over processes, but one process trains. Start more "
                "(`--nproc-per-node 8`, or a launcher), or leave `engine` out."
            )
        reason = refused_with_sharding(recipe)
        if reason is not None:
            raise RecipeError(f"{reason} under `engine: {self.name}`. Leave it out, or take `engine: ddp`.")

    def stopping_all(self) -> AbstractContextManager[None]:
        """Within, `OutOfMemory` of one process ends all: they would wait for its part of a forward."""
        return stop_all_on_out_of_memory(self.accelerator.num_processes)

    @abstractmethod
    def whole(self, weight: Tensor) -> AbstractContextManager[Tensor]:
        """Within, all of a weight, however it is sharded; not to be changed. Every process enters."""

    def weights_to_save(self, model: nn.Module, *, keep: bool) -> dict[str, Tensor]:
        """What has to be saved of a model, on the CPU: trained weights of an adapted one, else all.

        Every process calls it; those with `keep` have the result. Tied weights stay one tensor.
        """
        adapter_only = isinstance(model, PeftModel)
        state: dict[str, Tensor] = {}
        known: dict[int, Tensor] = {}
        for name, value in model.state_dict(keep_vars=True).items():
            if adapter_only and not value.requires_grad:
                continue
            if id(value) not in known:
                with self.whole(value) as tensor:
                    known[id(value)] = tensor.cpu() if keep else tensor.new_empty(0)
            state[name] = known[id(value)]
        return state if keep else {}

    def optimizer_file(self, checkpoint: Path) -> Path:
        """The file of a checkpoint that holds this process's part of the optimizer."""
        return checkpoint / f"optimizer-{self.accelerator.process_index}.safetensors"


@contextmanager
def excluded_from_sharding(model: nn.Module) -> Iterator[None]:
    """Within, the frozen parts of tower and projector are not parts of the model, so that no engine shards them."""
    family = family_of(model)
    taken: list[tuple[nn.Module, str, nn.Module]] = []

    def take(module: nn.Module, path: str) -> None:
        for name, child in list(module.named_children()):
            inside = [(f"{path}{name}.{leaf}", weight) for leaf, weight in child.named_parameters()]
            frozen = all(
                not weight.requires_grad and family.part_of(full) in ("vision", "projector") for full, weight in inside
            )
            if inside and frozen:
                taken.append((module, name, child))
            elif inside:
                take(child, f"{path}{name}.")

    take(family.model, "")
    for module, name, _ in taken:
        setattr(module, name, nn.Identity())
    try:
        yield
    finally:
        for module, name, child in taken:
            setattr(module, name, child)


def decoder_layers(model: nn.Module) -> list[nn.Module]:
    """The layers of the language model, which engines gather one at a time."""
    layers: Any = family_of(model).model.get_decoder().layers
    return list(layers)
