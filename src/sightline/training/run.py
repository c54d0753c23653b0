"""`train(recipe)`: from a recipe to a run folder."""

import contextlib
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from peft import PeftModel
from rich.console import Console
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, set_seed

from sightline.config import Recipe
from sightline.errors import RecipeError
from sightline.objectives.objective import build
from sightline.policy.families import family_of
from sightline.policy.load import load_model, load_processor, trainable_summary, unfreeze
from sightline.policy.lora import add_lora
from sightline.policy.recompute import recompute
from sightline.policy.reference import Reference, build_reference
from sightline.training.arguments import check_optimizer, training_arguments, uses_bf16
from sightline.training.checkpoints import last_checkpoint, named_checkpoint
from sightline.training.engine import asked_engine, check_engine, engine_at_work, refuse_what_shards_cannot
from sightline.training.finish import finish, read_card
from sightline.training.layout_choice import choose_layout
from sightline.training.memory_report import report_memory
from sightline.training.metrics import MetricsFile
from sightline.training.online_setup import online_trainer, panel_of, sampling_of
from sightline.training.precomputed import precomputed_reference
from sightline.training.progress import ProgressBar
from sightline.training.reference_updates import ReferenceUpdates
from sightline.training.rows import training_rows
from sightline.training.run_folder import METRICS, open_run_folder
from sightline.training.scores import attach, scores
from sightline.training.trainer import AlignmentTrainer
from sightline.training.world import (
    check_shared_folder,
    check_world,
    enter_slurm_step,
    join_world,
    naming_lost_processes,
)
from sightline.training.zero import check_installed, refuse_model


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
    check_installed(asked_engine(recipe), on_cpu=device(recipe).type == "cpu")
    panel = panel_of(recipe, rewards) if objective.num_responses == 0 else None
    finished = finished_run(recipe)
    if finished is not None:
        console.print(f"{finished.folder} is a finished run; nothing is left to do", highlight=False)
        return finished
    processes = join_world(recipe, on_cpu=device(recipe).type == "cpu")
    folder = enter_folder(recipe, processes)
    checkpoint = find_checkpoint(recipe, console)
    set_seed(recipe.seed)
    processor = processor if processor is not None else load_processor(recipe.model)
    model = model if model is not None else load_model(recipe.model, device(recipe))
    rows = training_rows(recipe, objective, processor, model, data=data, eval_data=eval_data)
    console.print(rows.summary, highlight=False)
    policy = prepare(model, recipe)
    console.print(describe_trainable(policy), highlight=False)
    family = family_of(policy)
    # as in training: a frozen tower in bfloat16 and a trained projector in float32 meet under autocast only
    with torch.autocast(device(recipe).type, torch.bfloat16, enabled=uses_bf16(recipe)):
        layout, reason = choose_layout(policy, family, rows.train, wanted=recipe.layout)
    console.print(reason, highlight=False)
    reference = build_reference(
        policy, recipe.reference, has_lora=recipe.lora is not None, needed=objective.needs_reference
    )
    updates = reference_updates(recipe, reference, policy, checkpoint)
    bar = ProgressBar(console, description)
    watching = scores(recipe, bar, held_out=rows.eval is not None and recipe.eval_steps is not None)
    metrics_file = MetricsFile(folder / METRICS, checkpoint if processes.is_main_process else None)
    if processes.is_main_process and checkpoint is None:
        metrics_file.path.unlink(missing_ok=True)  # of an attempt that ended before its first checkpoint
        metrics_file.write({"event": "layout", "layout": layout, "reason": reason})
    make = partial(online_trainer, recipe, panel=panel) if panel is not None else AlignmentTrainer
    arguments = training_arguments(recipe, has_eval=rows.eval is not None, resumes=checkpoint is not None)
    refuse_model(policy, reference, asked_engine(recipe))
    with engine_at_work(arguments, asked_engine(recipe)):
        trainer = make(
            model=policy,
            args=arguments,
            objective=objective,
            reference=reference,
            family=family,
            layout=layout,
            groups_per_forward=recipe.per_device_train_batch_size,
            shuffle=recipe.shuffle,
            train_dataset=rows.train,
            eval_dataset=rows.eval,
            processor=processor,
            guard=recipe.guard,
            say=lambda sentence: console.print(sentence, highlight=False),
            callbacks=[metrics_file, bar, *updates, *watching, *callbacks],
        )
    attach(watching, trainer, checkpoint)
    report_memory(trainer, recipe, metrics_file, console)
    if recipe.reference.type == "precomputed":
        trainer.reference = precomputed_reference(trainer, recipe, console)
    check_engine(trainer.accelerator, recipe)
    with contextlib.closing(trainer):
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - started
        if rows.eval is not None and not evaluated_at_end(trainer):
            trainer.evaluate_at_end()
    figures = finish(trainer, folder, recipe, seconds, watching[0].watch if watching else None)
    report_skipped(trainer, console)
    console.print(f"Saved to {folder}", highlight=False)
    return RunResult(folder=folder, model=policy, processor=processor, metrics=figures, seconds=seconds)


def speaking_alone(console: Console) -> Console:
    """Join the world of a SLURM step; of several processes, the first speaks for all."""
    enter_slurm_step()
    console.quiet = console.quiet or int(os.environ.get("RANK", "0")) > 0
    return console


def enter_folder(recipe: Recipe, processes: PartialState) -> Path:
    """The run's folder, opened once for all processes. Raises `UserError` where some are missing or cannot see it."""
    check_world(processes.num_processes, recipe)
    refuse_what_shards_cannot(recipe, processes.num_processes)
    folder = Path(recipe.output_dir)
    if processes.is_main_process:
        open_run_folder(recipe)
    processes.wait_for_everyone()
    check_shared_folder(folder)
    return folder


def finished_run(recipe: Recipe) -> RunResult | None:
    """The result of a run that had already ended when it was asked to resume."""
    folder = Path(recipe.output_dir)
    card = read_card(folder) if recipe.resume else None
    if card is None or (recipe.max_steps > card["steps"] and card.get("stopped") is None):
        return None
    return RunResult(folder=folder, model=None, processor=None, metrics=card["metrics"], seconds=card["seconds"])


def reference_updates(
    recipe: Recipe, reference: Reference | None, policy: nn.Module, checkpoint: Path | None
) -> list[ReferenceUpdates]:
    """TR-DPO's callback where the recipe asks for it, with the reference of the checkpoint."""
    if reference is None or recipe.reference.update_every is None:
        return []
    config = recipe.reference
    updates = ReferenceUpdates(reference, policy, every=recipe.reference.update_every, weight=config.update_weight)
    if checkpoint is not None:
        updates.resume(checkpoint)
    return [updates]


def find_checkpoint(recipe: Recipe, console: Console) -> Path | None:
    """The checkpoint to resume from, or None to start at step 0. Raises `UserError` when none of several is whole."""
    if not recipe.resume:
        return None
    if isinstance(recipe.resume, str):
        found, damaged = named_checkpoint(Path(recipe.resume)), []
    else:
        found, damaged = last_checkpoint(Path(recipe.output_dir))
    for sentence in damaged:
        console.print(sentence, highlight=False)
    console.print(f"Resuming from {found}" if found else "No checkpoint yet: starting at step 0", highlight=False)
    return found


def device(recipe: Recipe) -> torch.device:
    """Where this process trains. Schedulers may show each process a single GPU, which is number 0 to all of them."""
    if recipe.use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")) % torch.cuda.device_count())


def prepare(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """LoRA, and recomputation of activations, as the recipe says."""
    if recipe.lora is not None:
        set_seed(recipe.seed)  # right before the adapter, so that its initial weights depend on the seed alone
        policy: PreTrainedModel | PeftModel = add_lora(model, recipe.lora)
    else:
        policy = unfreeze(model, recipe.model)
    recompute(policy, recipe.gradient_checkpointing)
    return policy


def describe_trainable(model: nn.Module) -> str:
    """`Trains 40,960 of 1,012,345 parameters (4.05%): language model 40,960`."""
    trainable, total, by_part = trainable_summary(model)
    if trainable == 0:
        raise RecipeError(
            "Nothing is left to train: every part of the model is frozen. Add a `lora` group or unfreeze a part with "
            "`model.freeze_vision: false`."
        )
    parts = ", ".join(f"{part} {number:,}" for part, number in by_part.items() if number)
    return f"Trains {trainable:,} of {total:,} parameters ({100 * trainable / total:.2f}%): {parts}"


def evaluated_at_end(trainer: AlignmentTrainer) -> bool:
    """Whether the last step was already evaluated."""
    return any(
        line["step"] == trainer.state.global_step and any(name.startswith("eval_") for name in line)
        for line in trainer.state.log_history
    )


def report_skipped(trainer: AlignmentTrainer, console: Console) -> None:
    """Say which rows were left out, and why."""
    if trainer.bad_rows:
        console.print(f"{len(trainer.bad_rows)} rows were skipped; the first: {next(iter(trainer.bad_rows.values()))}")
