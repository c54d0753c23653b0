"""From a recipe, its rows and a model to a trainer that can start."""

from collections.abc import Sequence
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
from sightline.errors import RecipeError
from sightline.objectives.objective import Objective
from sightline.policy.families import family_of
from sightline.policy.load import trainable_summary, unfreeze
from sightline.policy.lora import add_lora
from sightline.policy.recompute import recompute
from sightline.policy.reference import Reference, build_reference
from sightline.rewards.panel import Panel
from sightline.training.arguments import device, training_arguments, uses_bf16
from sightline.training.engine import asked_engine, check_engine, engine_at_work
from sightline.training.layout_choice import choose_layout
from sightline.training.memory_report import report_memory
from sightline.training.metrics import MetricsFile
from sightline.training.online_setup import online_trainer
from sightline.training.precomputed import precomputed_reference
from sightline.training.probe import try_longest_first
from sightline.training.progress import ProgressBar
from sightline.training.reference_updates import ReferenceUpdates
from sightline.training.rows import TrainingRows
from sightline.training.run_folder import METRICS
from sightline.training.scores import Scores, attach, scores
from sightline.training.trainer import AlignmentTrainer
from sightline.training.zero import refuse_model


class Assembled(NamedTuple):
    """A trainer, and what scores its answers while it trains."""

    trainer: AlignmentTrainer
    watching: list[Scores]


def assemble(
    recipe: Recipe,
    objective: Objective,
    rows: TrainingRows,
    policy: PreTrainedModel | PeftModel,
    processor: Any,
    *,
    panel: Panel | None,
    folder: Path,
    checkpoint: Path | None,
    callbacks: Sequence[TrainerCallback],
    console: Console,
    description: str,
) -> Assembled:
    """Layout, reference, callbacks and the trainer around them, as the recipe says.

    panel: rewards, for objectives over sampled answers. checkpoint: that the run goes on from.
    """
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
    metrics_file = opened_metrics(folder, checkpoint, {"event": "layout", "layout": layout, "reason": reason})
    make = partial(online_trainer, recipe, panel=panel) if panel is not None else AlignmentTrainer
    arguments = training_arguments(recipe, has_eval=rows.eval is not None, resumes=checkpoint is not None)
    refuse_model(policy, None if reference is None else reference.mode, asked_engine(recipe))
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
    try_longest_first(trainer, recipe, metrics_file, console)
    if recipe.reference.type == "precomputed":
        trainer.reference = precomputed_reference(trainer, recipe, console)
    check_engine(trainer.accelerator, recipe)
    return Assembled(trainer, watching)


def opened_metrics(folder: Path, checkpoint: Path | None, first: dict[str, str]) -> MetricsFile:
    """The run's metrics: those up to the checkpoint, or this line and nothing else."""
    is_main = PartialState().is_main_process
    metrics_file = MetricsFile(folder / METRICS, checkpoint if is_main else None)
    if is_main and checkpoint is None:
        metrics_file.path.unlink(missing_ok=True)  # of an attempt that ended before its first checkpoint
        metrics_file.write(first)
    return metrics_file


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
