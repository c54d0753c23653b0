"""The engine of a run: how its processes train one model (one process and DDP, FSDP2, DeepSpeed's ZeRO).

A run makes its engine from the recipe (`requested.py`) before anything is loaded, and the trainer joins it to its
accelerator. Everything that differs between engines is a method here; no other file asks which one runs.
"""

import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any, ClassVar

import torch
from accelerate import Accelerator
from accelerate.utils import DistributedType, gather_object
from torch import Tensor, nn
from torch.optim import Optimizer
from transformers import TrainingArguments

from sightline.config import Recipe
from sightline.errors import UserError


class Engine(ABC):
    """How several processes train one model; the methods' defaults are those of one process.

    name: as a recipe spells it.
    """

    accelerate_types: ClassVar[tuple[DistributedType, ...]]
    """What accelerate calls this engine."""
    sharded: ClassVar[bool]
    """Whether weights, gradients or optimizer states are sharded, so that a forward or a backward needs all processes:
    one with fewer micro-batches than the others runs dummy ones, and running out of memory in one ends them all."""
    steps_while_clipping: ClassVar[bool] = False
    """Whether `clip_gradients` takes the optimizer's step, too."""

    accelerator: Accelerator
    arguments: TrainingArguments
    model: nn.Module
    """The prepared model, whose forward trains."""

    def __init__(self, name: str) -> None:
        self.name = name

    # before there is a trainer

    def check_installed(self, *, on_cpu: bool) -> None:
        """Raises `RecipeError` where a package is missing."""
        if on_cpu:
            # accelerate imports DeepSpeed wherever it is installed, which then complains of missing GPUs
            os.environ.setdefault("DS_ACCELERATOR", "cpu")

    def check_recipe(self, recipe: Recipe, num_processes: int) -> None:  # noqa: B027
        """Raises `UserError`, before anything is loaded, where the recipe asks for what this engine does not do."""

    def check_model(self, model: nn.Module, reference: str | None) -> None:  # noqa: B027
        """Raises `RecipeError` for a model that this engine cannot train.

        model: as it is trained, before it is prepared; a model on the meta device will do. reference: how it is kept
        (`frozen-copy`), or None.
        """

    def check_accelerate(self, accelerator: Any) -> None:
        """Raises `UserError` where accelerate runs another engine than this one."""
        kind = accelerator.distributed_type
        if kind not in self.accelerate_types:
            raise UserError(
                f"{self.name} was requested, but accelerate runs {kind.value} with {accelerator.num_processes} "
                "processes. Start with `sightline train RECIPE --nproc-per-node N`, torchrun, or recipes/accelerate "
                "(`sightline recipe list`)."
            )

    @contextmanager
    def selected(self, arguments: TrainingArguments) -> Iterator[None]:
        """Within, a Trainer that is made with these arguments runs this engine."""
        yield

    def join(self, accelerator: Accelerator, arguments: TrainingArguments) -> None:
        """Work with this accelerator from now on. Raises `UserError` where it runs another engine."""
        self.check_accelerate(accelerator)
        self.accelerator, self.arguments = accelerator, arguments

    # with a trainer

    @property
    def description(self) -> str:
        """The engine in words, for the run card."""
        return "one process" if self.accelerator.num_processes == 1 else self.name

    @abstractmethod
    def prepare(
        self, model: nn.Module, optimizer: Optimizer, frozen_copy: nn.Module | None
    ) -> tuple[nn.Module, Optimizer]:
        """The model whose forward trains, and the optimizer of its weights; both are kept.

        frozen_copy: the reference, where it is a model of its own.
        """

    def stopping_all(self) -> AbstractContextManager[None]:
        """Within, `OutOfMemory` of one process ends all of them where they would wait for it."""
        return nullcontext()

    @property
    def average_gradients(self) -> Callable[[nn.Module], None] | None:
        """Averages the gradients of all processes, once a step; None where backwards do so themselves."""
        return None

    def no_sync(self) -> AbstractContextManager[None]:
        """Context of every backward that is not to communicate."""
        return nullcontext()

    def autocast(self) -> AbstractContextManager:
        """Context of every forward besides what accelerate puts around the prepared model's."""
        return nullcontext()

    def backward(self, loss: Tensor) -> None:
        """Add a loss's gradient to what the step has."""
        self.accelerator.backward(loss)

    def clip_gradients(self, max_norm: float) -> Tensor:
        """Clip the step's gradients; their norm before that. max_norm: 0 clips nothing."""
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), max_norm if max_norm > 0 else float("inf"))
        assert norm is not None
        return norm

    def discard_gradients(self) -> None:
        """Forget the gradients of a step that is not taken."""
        self.model.zero_grad(set_to_none=True)

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """Within, every process holds all weights, the reference's too, and may call the model as often as it likes.

        Every process enters.
        """
        yield

    def weights_to_save(self, model: nn.Module, *, keep: bool) -> dict[str, Tensor] | None:
        """What `save_pretrained` writes, gathered from all processes; None for the model's own weights as they are.

        Every process calls it; those with `keep` have the result.
        """
        return None

    @abstractmethod
    def save_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Write the optimizer's state into a checkpoint. Every process calls it."""

    @abstractmethod
    def load_optimizer(self, optimizer: Optimizer, checkpoint: Path) -> None:
        """Put back what `save_optimizer` wrote."""

    # what processes tell one another

    def sum_over_processes(self, counts: dict[str, float]) -> dict[str, float]:
        """The sums of these numbers over all processes."""
        if self.accelerator.num_processes == 1:
            return counts
        values = torch.tensor(list(counts.values()), dtype=torch.float64, device=self.accelerator.device)
        total = self.accelerator.reduce(values, reduction="sum")
        return dict(zip(counts, total.tolist(), strict=True))

    def gather(self, thing: Any) -> list[Any]:
        """One object from each process, in their order."""
        return gather_object([thing]) if self.accelerator.num_processes > 1 else [thing]

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any process."""
        return self.sum_over_processes({"flag": float(flag)})["flag"] > 0
