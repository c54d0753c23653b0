"""What to do when a run ran out of memory and cannot help itself: the planner's cheapest change, in one paragraph."""

from dataclasses import replace

from sightline.config import Recipe
from sightline.errors import ModelError
from sightline.memory.estimator import Estimator
from sightline.memory.page import flags_of, lines_of, size
from sightline.memory.planner import RESERVE, Fit, find_fit, memory_here
from sightline.memory.sample import Sizes
from sightline.models.families.family import Family
from sightline.types import Group


def advice(
    recipe: Recipe,
    family: Family,
    group: Group,
    *,
    said: str,
    checkpoint: str | None,
    gpus: int = 1,
    alone: bool = True,
) -> str:
    """The paragraph. group: the longest of the failed step. said: what happened. checkpoint: the last one's name.

    alone: whether the group had a micro-batch for itself; else it was one of the recipe's.
    """
    responses = ", ".join(str(len(response)) for response in group.responses)
    said = f"{said}: the longest, {group.id}, has {len(group.prompt_ids):,} prompt tokens and responses of {responses}."
    fit, before = _cheapest(_alone(recipe) if alone else recipe, family, group, gpus)
    if fit is None or not fit.changes:
        return (
            f"{said} `sightline plan` knows no change that needs less. Left: smaller images (`model.processor`), "
            f"shorter rows (`data.max_length`), more GPUs, a smaller model.{_resume(checkpoint, True)}"
        )
    why = "; ".join(change.why for change in fit.changes)
    same_run = all(change.departs == 0 for change in fit.changes)
    return (
        f"{said} The cheapest change that `sightline plan` finds, {size(fit.peak)} instead of {size(before)}: "
        f"{', '.join(lines_of(fit.fields))} ({why}). Add {flags_of(fit.fields)}"
        f".{_resume(checkpoint, same_run)}"
    )


def _alone(recipe: Recipe) -> Recipe:
    rows = recipe.per_device_train_batch_size * recipe.gradient_accumulation_steps
    return replace(recipe, per_device_train_batch_size=1, gradient_accumulation_steps=rows)


def _cheapest(recipe: Recipe, family: Family, group: Group, gpus: int) -> tuple[Fit | None, int]:
    """The cheapest fit for micro-batches of rows like this one, and what they need as things are."""
    estimator = Estimator(family.config, Sizes(), group)
    try:
        before = estimator.estimate(recipe, gpus=gpus).peak
    except ModelError:
        return None, 0
    here = memory_here()
    # it ran out, whatever the estimate says: what helps needs clearly less
    clearly_less = before * 9 // 10
    capacity = clearly_less if here is None else min(clearly_less, here - RESERVE)
    return find_fit(estimator, recipe, capacity=capacity, gpus=gpus), before


def _resume(checkpoint: str | None, same_run: bool) -> str:
    if checkpoint is None:
        return " No checkpoint was written yet: start again."
    if same_run:
        return f" {checkpoint} is whole: go on from it with --resume."
    return f" {checkpoint} is whole, but this change makes another run: start it in a folder of its own."
