"""Where weights are spread, the longest step of the run is tried before the first: nothing can be done again later.

Forward and backward, with room kept for the optimizer's states, which the first step makes. Nothing of it stays:
weights, optimizer, random numbers, place in the data and figures are what they were. Left out: the optimizer's own
step, evaluation and sampling.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial

import torch
from rich.console import Console
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from sightline.config import Recipe
from sightline.errors import OutOfMemory
from sightline.memory.estimate import STATES
from sightline.memory.table import size
from sightline.training.checkpointing import random_states, set_random_states
from sightline.training.cut import tokens_in_grid
from sightline.training.longest_step import LongestStep, longest_step
from sightline.training.memory_report import advise
from sightline.training.metrics import MetricsFile
from sightline.training.micro_batch import cut_step
from sightline.training.trainer import AlignmentTrainer
from sightline.types import Group

WHICH = "The longest step of this run, tried before the first one,"


def can_run_out(device: torch.device) -> bool:
    """Whether a process is told when memory runs out; on a CPU the system ends it instead."""
    return device.type == "cuda"


def try_longest_first(trainer: AlignmentTrainer, recipe: Recipe, metrics: MetricsFile, console: Console) -> None:
    """Have the trainer do so when its model is ready. Raises `OutOfMemory` with advice then, in every process."""
    if trainer.settings.memory.sharded and can_run_out(trainer.settings.device):
        trainer.add_callback(_Probe(lambda: probe(trainer, recipe, metrics, console)))


class _Probe(TrainerCallback):
    """Before the first step, or the first after a checkpoint."""

    def __init__(self, work: Callable[[], None]) -> None:
        self.work = work

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        self.work()


def probe(trainer: AlignmentTrainer, recipe: Recipe, metrics: MetricsFile, console: Console) -> None:
    """Forward and backward of the longest step, and a line that says what it took. Raises `OutOfMemory`."""
    random, spare = random_states(), trainer.spare.group
    step = longest_step(trainer)
    settings = trainer.settings
    memory = replace(settings.memory, advise=partial(advise, trainer, recipe, which=WHICH))
    try:
        states = torch.empty(states_to_come(trainer, recipe), dtype=torch.uint8, device=settings.device)
    except torch.OutOfMemoryError:
        longest = max(step.groups, key=lambda group: group.num_tokens, default=None) or trainer.spare()
        raise OutOfMemory(memory.advise(longest)) from None
    trainer.try_step(step.groups, replace(settings, memory=memory))
    del states
    trainer.spare.group = spare
    set_random_states(random)
    report(trainer, step, metrics, console)


def states_to_come(trainer: AlignmentTrainer, recipe: Recipe) -> int:
    """Bytes of this process's part of the optimizer's states; a resumed run has them already."""
    assert trainer.model is not None
    if trainer.state.global_step > 0:
        return 0
    trained = [weight for weight in trainer.model.parameters() if weight.requires_grad]
    # DeepSpeed leaves nothing of a weight that it spreads but its number
    number = sum(int(weight.ds_numel) if hasattr(weight, "ds_id") else weight.numel() for weight in trained)
    return round(number * STATES[recipe.optim] / trainer.settings.num_processes)


def report(trainer: AlignmentTrainer, step: LongestStep, metrics: MetricsFile, console: Console) -> None:
    """Say that the longest step fits, and what it took on the fullest GPU."""
    settings = trainer.settings
    here = torch.cuda.max_memory_allocated(settings.device) if settings.device.type == "cuda" else 0
    took = max(settings.gather(here))
    tokens = max(settings.gather(fullest_forward(step.groups, trainer)))
    if not trainer.is_world_process_zero():
        return
    metrics.write({"event": "longest step", "rows": step.num_rows, "tokens": tokens, "bytes": took})
    learnt = ""
    if step.num_known < step.total:
        learnt = (
            f". It was looked for among {step.num_known:,} of {step.total:,} rows; with `data.cache_tokens` all "
            "lengths are known"
        )
    console.print(
        f"The longest step fits: {step.num_rows} rows, up to {tokens:,} tokens a forward"
        + (f", {size(took)} on the fullest GPU" if took else "")
        + learnt,
        highlight=False,
    )


def fullest_forward(groups: list[Group], trainer: AlignmentTrainer) -> int:
    """Tokens of this process's largest micro-batch of these groups."""
    shared = trainer.settings.layout == "prefix"
    pieces = cut_step(groups, trainer.settings)
    return max((sum(tokens_in_grid(group, shared_prefix=shared) for group in piece) for piece in pieces), default=0)
