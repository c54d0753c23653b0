"""`train(recipe)`: from a recipe to a run folder."""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from accelerate import PartialState
from rich.console import Console
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, set_seed

from sightline.config import Recipe
from sightline.data.loader_workers import check_temporary_folder
from sightline.errors import UserError
from sightline.objectives.objective import build
from sightline.policy.load import load_model, load_processor
from sightline.training.arguments import check_optimizer, device
from sightline.training.assembly import assemble, prepare
from sightline.training.checkpoints import last_checkpoint, named_checkpoint
from sightline.training.engine import asked_engine, refuse_what_shards_cannot
from sightline.training.finish import finish, read_card
from sightline.training.online_setup import check_sampler, panel_of, sampling_of
from sightline.training.rows import training_rows
from sightline.training.run_folder import opened_run_folder
from sightline.training.trainer import AlignmentTrainer
from sightline.training.watch import stop_rules
from sightline.training.world import (
    check_shared_folder,
    check_world,
    enter_slurm_step,
    join_world,
    naming_lost_processes,
)
from sightline.training.zero import check_installed


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run left behind.

    folder: the run's folder, loadable by peft or transformers. model, processor: still in memory; None where a
        finished run was resumed and nothing was done.
    metrics: the last logged figures, by the names in metrics.jsonl. seconds: wall time of training.
    """

    folder: Path
    model: nn.Module | None
    processor: Any
    metrics: dict[str, float]
    seconds: float


@naming_lost_processes()
def train(
    recipe: Recipe,
    *,
    data: Sequence[dict[str, Any]] | None = None,
    eval_data: Sequence[dict[str, Any]] | None = None,
    model: PreTrainedModel | None = None,
    processor: Any = None,
    rewards: Sequence[Callable[..., Any]] = (),
    callbacks: Sequence[TrainerCallback] = (),
    console: Console | None = None,
    description: str = "Training",
) -> RunResult:
    """Train as the recipe says and write a run folder.

    data, eval_data: rows (a `datasets.Dataset` or any sequence of dicts) instead of `recipe.data.source`.
    model, processor: objects already in memory instead of `recipe.model.name`.
    rewards: functions besides `recipe.rewards`, for objectives over sampled answers.
    Raises `UserError` and its kinds for every mistake of the user's.
    """
    console = speaking_alone(console or Console())
    objective = build(recipe.objective, max_completion_length=sampling_of(recipe).max_completion_length)
    check_optimizer(recipe)
    check_temporary_folder(recipe.dataloader_num_workers)
    check_installed(asked_engine(recipe), on_cpu=device(recipe).type == "cpu")
    panel = panel_of(recipe, rewards) if objective.num_responses == 0 else None
    finished = finished_run(recipe, console)
    if finished is not None:
        return finished
    processes = join_world(recipe, on_cpu=device(recipe).type == "cpu")
    with entered_folder(recipe, processes, console) as folder:
        checkpoint = find_checkpoint(recipe, console)
        set_seed(recipe.seed)
        processor = processor if processor is not None else load_processor(recipe.model)
        model = model if model is not None else load_model(recipe.model, device(recipe))
        rows = training_rows(recipe, objective, processor, model, data=data, eval_data=eval_data)
        console.print(rows.summary, highlight=False)
        policy = prepare(model, recipe)
        trainer, watching = assemble(
            recipe,
            objective,
            rows,
            policy,
            processor,
            panel=panel,
            folder=folder,
            checkpoint=checkpoint,
            callbacks=callbacks,
            console=console,
            description=description,
        )
    with contextlib.closing(trainer):
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - started
        if rows.eval is not None and not evaluated_at_end(trainer):
            trainer.evaluate_at_end()
    figures = finish(trainer, folder, recipe, seconds, watching[0].watch if watching else None)
    report_rows(trainer, recipe, console)
    console.print(f"Saved to {folder}", highlight=False)
    return RunResult(folder=folder, model=policy, processor=processor, metrics=figures, seconds=seconds)


def speaking_alone(console: Console) -> Console:
    """Join the world of a SLURM step; of several processes, the first speaks for all."""
    enter_slurm_step()
    console.quiet = console.quiet or int(os.environ.get("RANK", "0")) > 0
    return console


@contextlib.contextmanager
def entered_folder(recipe: Recipe, processes: PartialState, console: Console) -> Iterator[Path]:
    """The run's folder, opened once for all processes; not left behind by a run that is refused before it begins.

    Raises `UserError` where some processes are missing or cannot see it, or where nobody can sample.
    """
    check_world(processes.num_processes, recipe)
    refuse_what_shards_cannot(recipe, processes.num_processes)
    check_sampler(recipe, partial(console.print, highlight=False))
    with opened_run_folder(recipe) if processes.is_main_process else contextlib.nullcontext():
        processes.wait_for_everyone()
        folder = Path(recipe.output_dir)
        check_shared_folder(folder)
        yield folder


def finished_run(recipe: Recipe, console: Console) -> RunResult | None:
    """The result of a run that had already ended when it was asked to resume; the user is told so."""
    folder = Path(recipe.output_dir)
    card = read_card(folder) if recipe.resume else None
    if card is None or is_asked_for_more(card, recipe):
        return None
    if card.get("stopped") is not None:
        said = (
            f"{folder} stopped early at step {card['steps']}: {card['stopped']}. Nothing is left to do; to go on all "
            "the same, change `evaluation.limits` or `evaluation.patience`."
        )
    else:
        said = f"{folder} is a finished run; nothing is left to do"
    console.print(said, highlight=False)
    return RunResult(folder=folder, model=None, processor=None, metrics=card["metrics"], seconds=card["seconds"])


def is_asked_for_more(card: dict[str, Any], recipe: Recipe) -> bool:
    """Whether a run that has ended is to take more steps, or to follow other rules than those that stopped it early."""
    if card.get("stopped") is not None:
        return card["stop_rules"] != stop_rules(recipe.evaluation)
    return recipe.max_steps > card["steps"]


def find_checkpoint(recipe: Recipe, console: Console) -> Path | None:
    """The checkpoint to resume from, or None to start at step 0.

    Raises `UserError` when none of several is whole, or a run that has ended left none.
    """
    if not recipe.resume:
        return None
    if isinstance(recipe.resume, str):
        found, damaged = named_checkpoint(Path(recipe.resume)), []
    else:
        found, damaged = last_checkpoint(Path(recipe.output_dir))
    if found is None and read_card(Path(recipe.output_dir)) is not None:
        raise UserError(
            f"The run in {recipe.output_dir} ended without a checkpoint (`save_steps` was not given), so it cannot go "
            "on. Start a new run from its weights (`lora.adapter`, or `model.name`), or over with "
            "--overwrite-output-dir in place of --resume."
        )
    for sentence in damaged:
        console.print(sentence, highlight=False)
    console.print(f"Resuming from {found}" if found else "No checkpoint yet: starting at step 0", highlight=False)
    return found


def evaluated_at_end(trainer: AlignmentTrainer) -> bool:
    """Whether the last step was already evaluated."""
    return any(
        line["step"] == trainer.state.global_step and any(name.startswith("eval_") for name in line)
        for line in trainer.state.log_history
    )


def report_rows(trainer: AlignmentTrainer, recipe: Recipe, console: Console) -> None:
    """Say which rows were left out, and why, and how many were trimmed."""
    if trainer.bad_rows:
        console.print(f"{len(trainer.bad_rows)} rows were skipped; the first: {next(iter(trainer.bad_rows.values()))}")
    if trimmed := trainer.truncated.sentence(recipe.data.max_length):
        console.print(trimmed, markup=False, highlight=False)
