"""`train(recipe)`: from a recipe to a run folder, top to bottom.

Read the recipe, find out who else trains, open the run folder, load the model and the rows, build the trainer, train,
and write the run's files.
"""

import contextlib
import os
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import torch
from accelerate import PartialState
from peft import PeftModel
from rich.console import Console
from torch import nn
from transformers import PreTrainedModel, TrainerCallback, set_seed

from sightline.config import Recipe
from sightline.config.combinations import refuse_idle_evaluation
from sightline.config.online_objectives import OnlineConfig
from sightline.config.packages import refuse_absent
from sightline.data.stream.loader_workers import check_temporary_folder
from sightline.errors import RecipeError
from sightline.evaluation.task import Task
from sightline.forward.reference import Reference, build_reference
from sightline.models.families.find import family_of
from sightline.models.load import load_model, load_processor, trainable_summary, trained_share, unfreeze
from sightline.models.lora import add_lora, experts_left_alone
from sightline.models.recompute import recompute
from sightline.objectives.objective import Objective, build
from sightline.rewards.reward_set import RewardSet
from sightline.training.arguments import device, training_arguments, uses_bf16
from sightline.training.checkpoint.finish import finish
from sightline.training.checkpoint.run_folder import opened_run_folder
from sightline.training.checkpoint.start import Start, find_start, nothing_left, read_card
from sightline.training.datasets import TrainingRows, training_rows
from sightline.training.distributed.engine import Engine
from sightline.training.distributed.probe import try_longest_first
from sightline.training.distributed.requested import requested_engine
from sightline.training.distributed.world import (
    check_shared_folder,
    check_world,
    enter_slurm_step,
    explain_lost_processes,
    join_world,
)
from sightline.training.given import with_objects
from sightline.training.hardware import check_hardware
from sightline.training.layout_choice import choose_layout, describe_attention
from sightline.training.online.setup import (
    check_sampler,
    online_trainer,
    pairs_of,
    reward_set_of,
    samples,
    sampling_of,
)
from sightline.training.reference import ReferenceUpdates, precomputed_reference
from sightline.training.teacher import load_teacher
from sightline.training.trainer import AlignmentTrainer
from sightline.training.watch.memory import report_memory
from sightline.training.watch.progress import ProgressBar
from sightline.training.watch.scores import Scores, Scoring, Watch, scoring_of
from sightline.training.watch.tensorboard import tensorboard


@dataclass(frozen=True, kw_only=True)
class RunResult:
    """What a run made.

    folder: the run's folder, loadable by peft or transformers. model, processor: still in memory; None where a
        finished run was resumed and nothing was done.
    metrics: the last logged figures, by the names in metrics.jsonl. seconds: wall time of training.
    """

    folder: Path
    model: nn.Module | None
    processor: Any
    metrics: dict[str, float]
    seconds: float


@explain_lost_processes()
def train(
    recipe: Recipe,
    *,
    data: Sequence[dict[str, Any]] | None = None,
    eval_data: Sequence[dict[str, Any]] | None = None,
    model: PreTrainedModel | None = None,
    processor: Any = None,
    objective: Callable[..., Any] | None = None,
    sampler: Any = None,
    rewards: Sequence[Callable[..., Any]] = (),
    tasks: Sequence[Task] = (),
    callbacks: Sequence[TrainerCallback] = (),
    console: Console | None = None,
    description: str = "Training",
    says_where: bool = True,
) -> RunResult:
    """Train by a recipe and write a run folder.

    data, eval_data: rows (a `datasets.Dataset` or any sequence of dicts) instead of `recipe.data.source`.
    model, processor: objects already in memory instead of `recipe.model.name`.
    objective, sampler: a loss and a sampler instead of the recipe's; rewards, tasks: besides the recipe's
        `rewards` and `evaluation.tasks`. docs/extending.md says what each must be.
    says_where: whether the last line names the folder; off where it is about to be deleted.
    Raises `UserError` and its kinds for every mistake of the user's.
    """
    console = main_process_console(console or Console())
    recipe = with_objects(recipe, objective=objective, sampler=sampler, tasks=tasks)
    built = build(recipe.objective, max_completion_length=sampling_of(recipe).max_completion_length)
    refuse_absent(recipe)
    check_temporary_folder(recipe.dataloader_num_workers)
    engine = requested_engine(recipe)
    about_hardware = check_hardware(recipe)
    engine.check_installed(on_cpu=device(recipe).type == "cpu")
    refuse_idle(recipe, rewards)
    reward_set = reward_set_of(recipe, rewards) if samples(recipe, rewards) else None
    if (finished := finished_run(recipe, console)) is not None:
        return finished
    for sentence in about_hardware:
        console.print(sentence, highlight=False)
    scoring = scoring_of(
        recipe,
        held_out=recipe.eval_steps is not None and (eval_data is not None or recipe.data.holds_out),
        rewards={} if reward_set is None else reward_set.weights,
    )
    processes = join_world(recipe, on_cpu=device(recipe).type == "cpu")
    start = find_start(recipe, partial(console.print, markup=False, highlight=False))
    with prepared_folder(recipe, engine, processes, start, console) as folder:
        set_seed(recipe.seed)
        processor = processor if processor is not None else load_processor(recipe.model)
        model = model if model is not None else load_model(recipe.model, device(recipe))
        given_rows: Any = {"data": data, "eval_data": eval_data, "as_prompts": reward_set is not None}
        rows = training_rows(recipe, built, processor, model, **given_rows)
        console.print(rows.summary, highlight=False)
        refuse_idle_evaluation(recipe.eval_steps, recipe.eval_on_start, rows.eval is not None)
        policy = prepare(model, recipe)
        given = {"engine": engine, "reward_set": reward_set, "folder": folder, "start": start, "scoring": scoring}
        shown = {"callbacks": callbacks, "console": console, "description": description}
        trainer, watch = assemble(recipe, built, rows, policy, processor, **given, **shown)
    with reporting_saved_model(trainer, folder, console):
        seconds = train_and_evaluate(trainer, start.checkpoint)
        figures = finish(trainer, folder, recipe, seconds, watch)
    report_rows(trainer, recipe, console)
    if says_where:
        console.print(f"Saved to {folder}", highlight=False)
    return RunResult(folder=folder, model=policy, processor=processor, metrics=figures, seconds=seconds)


def refuse_idle(recipe: Recipe, rewards: Sequence[Callable[..., Any]]) -> None:
    """Raises `RecipeError` for groups of the recipe, or rewards given in Python, that this run would leave unread."""
    if recipe.rounds is not None:
        raise RecipeError(
            "`rounds` are several runs, one after the other. Start them with `sightline train`, or in Python with "
            "`sightline.train_rounds(recipe)`."
        )
    if samples(recipe, rewards):
        if not isinstance(recipe.objective, OnlineConfig):
            pairs_of(recipe)
        return
    if rewards or recipe.sampler is not None or recipe.pairs is not None:
        raise RecipeError(
            f"`objective.type: {recipe.objective.type}` trains on what is in the data here, so that a sampler, "
            "`rewards` and `pairs` would do nothing: a pair objective with `rewards` samples its own pairs, and "
            "`sightline pairs` makes a set of them. Leave them out, or add what is missing."
        )


def main_process_console(console: Console) -> Console:
    """The console, quiet in all processes but the first. Joins the world of a SLURM step."""
    enter_slurm_step()
    console.quiet = console.quiet or int(os.environ.get("RANK", "0")) > 0
    return console


def finished_run(recipe: Recipe, console: Console) -> RunResult | None:
    """The result of a run that had already ended when it was resumed, after a line about it; None of any other run."""
    folder = Path(recipe.output_dir)
    card = read_card(folder) if recipe.resume else None
    line = None if card is None else nothing_left(card, recipe)
    if card is None or line is None:
        return None
    console.print(line, highlight=False)
    return RunResult(folder=folder, model=None, processor=None, metrics=card["metrics"], seconds=card["seconds"])


@contextlib.contextmanager
def prepared_folder(
    recipe: Recipe, engine: Engine, processes: PartialState, start: Start, console: Console
) -> Iterator[Path]:
    """The run's folder, opened once for all processes; removed again where the run is refused before it begins.

    Raises `UserError` where some processes are missing or cannot see it, or where nobody can sample.
    """
    check_world(processes.num_processes, recipe)
    engine.check_recipe(recipe, processes.num_processes)
    check_sampler(recipe, partial(console.print, highlight=False))
    opened = opened_run_folder(recipe, goes_on=start.checkpoint is not None)
    with opened if processes.is_main_process else contextlib.nullcontext():
        processes.wait_for_everyone()
        folder = Path(recipe.output_dir)
        check_shared_folder(folder)
        yield folder


def prepare(model: PreTrainedModel, recipe: Recipe) -> PreTrainedModel | PeftModel:
    """The policy of the recipe: with LoRA, or trained parts unfrozen, and activations recomputed or not."""
    if recipe.lora is not None:
        set_seed(recipe.seed)  # right before the adapter, so that its initial weights depend on the seed alone
        policy: PreTrainedModel | PeftModel = add_lora(model, recipe.lora)
    else:
        policy = unfreeze(model, recipe.model)
    recompute(policy, recipe.gradient_checkpointing)
    return policy


class Assembled(NamedTuple):
    """A trainer, and what judges its scores while it trains, if anything does."""

    trainer: AlignmentTrainer
    watch: Watch | None


def assemble(
    recipe: Recipe,
    objective: Objective,
    rows: TrainingRows,
    policy: PreTrainedModel | PeftModel,
    processor: Any,
    *,
    engine: Engine,
    reward_set: RewardSet | None,
    folder: Path,
    start: Start,
    scoring: Scoring | None,
    callbacks: Sequence[TrainerCallback],
    console: Console,
    description: str,
) -> Assembled:
    """Layout, reference, callbacks and the trainer around them, by the recipe.

    reward_set: for objectives over sampled completions. start: at step 0, or at a checkpoint.
    """
    console.print(describe_trainable(policy), highlight=False)
    family = family_of(policy)
    # as in training: a frozen tower in bfloat16 and a trained projector in float32 meet under autocast only
    with torch.autocast(device(recipe).type, torch.bfloat16, enabled=uses_bf16(recipe)):
        layout, reason = choose_layout(policy, family, rows.train, wanted=recipe.layout)
        if layout == "prefix":
            reason += f"; {describe_attention(family)}"
    console.print(reason, highlight=False)
    if recipe.reference.type == "teacher":
        reference = load_teacher(recipe, processor, policy)
        console.print(f"Teacher: {recipe.reference.model}", highlight=False)
    else:
        reference = build_reference(
            policy, recipe.reference, has_lora=recipe.lora is not None, needed=objective.needs_reference
        )
    checkpoint, bar = start.checkpoint, ProgressBar(console, description)
    scores = None if scoring is None else Scores(recipe, scoring, bar)
    report = partial(console.print, highlight=False)
    metrics_file = start.metrics_file(folder, {"event": "layout", "layout": layout, "reason": reason}, report)
    ours = [metrics_file, start.recipe_file(recipe), bar, *tensorboard(recipe, folder, checkpoint)]
    ours += [*reference_updates(recipe, reference, policy, checkpoint), *([] if scores is None else [scores])]
    make = partial(online_trainer, recipe, rewards=reward_set) if reward_set is not None else AlignmentTrainer
    arguments = training_arguments(recipe, has_eval=rows.eval is not None, resumes=checkpoint is not None)
    engine.check_model(policy, None if reference is None else reference.mode)
    trainer = make(
        model=policy,
        args=arguments,
        engine=engine,
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
        report=report,
        callbacks=[*ours, *callbacks],
    )
    if scores is not None:
        scores.attach(trainer, checkpoint, new_figures=start.changes.new_figures)
    report_memory(trainer, recipe, metrics_file, console)
    try_longest_first(trainer, recipe, metrics_file, console)
    if recipe.reference.type == "precomputed":
        trainer.reference = precomputed_reference(trainer, recipe, console)
    return Assembled(trainer, None if scores is None else scores.watch)


def describe_trainable(model: nn.Module) -> str:
    """A line: `Trains 40,960 of 1,012,345 parameters (4.046%): language model 40,960`; and one about experts that an
    adapter leaves alone.

    Raises `RecipeError` where nothing is trained.
    """
    trainable, total, by_part = trainable_summary(model)
    if trainable == 0:
        raise RecipeError(
            "Nothing is left to train: every part of the model is frozen. Add a `lora` group or unfreeze a part with "
            "`model.freeze_vision: false`."
        )
    parts = ", ".join(f"{part} {number:,}" for part, number in by_part.items() if number)
    said = f"Trains {trained_share(trainable, total)}: {parts}"
    if not isinstance(model, PeftModel) or not (left := experts_left_alone(model)):
        return said
    return (
        f"{said}\nLoRA leaves {left:,} weights of experts as they are: they are stacked, not linear layers. "
        "`lora.target_modules: [language, experts]` adapts them, too."
    )


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


def train_and_evaluate(trainer: AlignmentTrainer, checkpoint: Path | None) -> float:
    """All steps from the first or a checkpoint's on, and an evaluation at the end; seconds that the steps took."""
    with contextlib.closing(trainer):
        started = time.perf_counter()
        trainer.train(resume_from_checkpoint=str(checkpoint) if checkpoint else None)
        seconds = time.perf_counter() - started
        if trainer.eval_dataset is not None and not evaluated_at_end(trainer):
            trainer.evaluate_with_all_weights()
    return seconds


def evaluated_at_end(trainer: AlignmentTrainer) -> bool:
    """Whether the last step was already evaluated."""
    return any(
        line["step"] == trainer.state.global_step and any(name.startswith("eval_") for name in line)
        for line in trainer.state.log_history
    )


@contextlib.contextmanager
def reporting_saved_model(trainer: AlignmentTrainer, folder: Path, console: Console) -> Iterator[None]:
    """Within, what fails after the last step is raised after a line on where the trained model is."""
    try:
        yield
    except Exception:
        if trainer.final_step is not None:
            console.print(
                f"The trained model of step {trainer.final_step} is saved in {folder}; what failed came after it.",
                highlight=False,
            )
        raise


def report_rows(trainer: AlignmentTrainer, recipe: Recipe, console: Console) -> None:
    """Print which rows were left out, and why, and how many were trimmed."""
    if bad := trainer.rows_seen.bad:
        console.print(f"{len(bad)} rows were skipped; the first: {next(iter(bad.values()))}")
    if trimmed := trainer.rows_seen.truncated.sentence(recipe.data.max_length):
        console.print(trimmed, markup=False, highlight=False)
