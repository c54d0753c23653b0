"""What a run reports when its memory runs out: a line for each finer cut, and advice where no cut helps."""

from functools import partial
from pathlib import Path

from rich.console import Console

from sightline.config import Recipe
from sightline.memory.advice import advice
from sightline.training.checkpoint.files import last_checkpoint
from sightline.training.step.metrics import MetricsFile
from sightline.training.trainer import AlignmentTrainer
from sightline.types import Group


def report_memory(trainer: AlignmentTrainer, recipe: Recipe, metrics: MetricsFile, console: Console) -> None:
    """Report finer cuts on the console and in metrics.jsonl, and give the trainer advice for this recipe."""

    def report(limit: int, before: str, after: str) -> None:
        if trainer.is_world_process_zero():
            step = trainer.state.global_step + 1
            metrics.write({"step": step, "event": "out of memory", "token_limit": limit})
            finer = f"; its rows are cut {before} → {after}" if after != before else ""
            console.print(
                f"Step {step} ran out of memory{finer}. From here on a micro-batch of several rows holds at most "
                f"{limit:,} tokens, padding included. The effective batch and the curve stay as they are",
                highlight=False,
            )

    memory = trainer.settings.memory
    memory.on_new_limit, memory.advise = report, partial(advise, trainer, recipe)


def advise(trainer: AlignmentTrainer, recipe: Recipe, group: Group, *, which: str | None = None) -> str:
    """The paragraph for a step that ran out of memory on this group, its longest.

    which: the step, by default the one after the last that was taken.
    """
    which = which or f"Step {trainer.state.global_step + 1}"
    sharded = trainer.engine.sharded
    checkpoint, _ = last_checkpoint(Path(recipe.output_dir))
    return advice(
        recipe,
        trainer.settings.family,
        trainer.settings.family.place(group),
        said=f"{which} ran out of memory under `engine: {trainer.engine.name}`, where a step cannot be cut finer"
        if sharded
        else f"{which} ran out of memory although it was cut down to a single row a micro-batch",
        checkpoint=checkpoint.name if checkpoint else None,
        gpus=trainer.settings.num_processes,
        alone=not sharded,
    )
