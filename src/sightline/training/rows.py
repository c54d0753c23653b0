"""The rows of a run: where they come from, which are held out, and as what kind of group they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from sightline.config import Recipe
from sightline.data.corrupt import WithCorruptedPictures
from sightline.data.dataset import GroupDataset, Kind
from sightline.data.holdout import split_by_picture
from sightline.data.render import Renderer
from sightline.data.rows import Rows
from sightline.data.sources import load_rows, rows_of
from sightline.errors import DataError, RecipeError
from sightline.objectives.objective import Objective
from sightline.objectives.roles import CORRUPTED
from sightline.rollouts.prompts import PromptDataset

KINDS: dict[int, Kind] = {0: "prompts", 1: "demonstrations", 2: "pairs"}
"""What a row is to an objective, by how many responses it needs."""


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Data sets of groups to train on and to evaluate on, and a line that says what they are."""

    train: Dataset
    eval: Dataset | None
    summary: str


def training_rows(
    recipe: Recipe,
    objective: Objective,
    processor: Any,
    model: nn.Module,
    *,
    data: Sequence[dict[str, Any]] | None = None,
    eval_data: Sequence[dict[str, Any]] | None = None,
) -> TrainingRows:
    """Read the recipe's rows, or take the given ones. Raises `DataError` when there are none."""
    config = recipe.data
    if data is None and not config.is_given:
        raise RecipeError("The recipe names no data. Give `data.source` (a file, folder, hub id or `scenes`).")
    if data is not None:
        rows = rows_of(data).with_system(config.system)
    elif config.source == "scenes":
        from sightline.scenes.rows import for_recipe

        rows = rows_of(for_recipe(config, recipe.objective.type, model=model, processor=processor), source="scenes")
    else:
        rows = load_rows(config)
    if len(rows) == 0:
        raise DataError(f"{config.source or 'The data'} has no rows.")
    renderer = Renderer(processor, max_length=config.max_length, on_overlong=config.on_overlong)
    kind = kind_of(objective, rows)

    def dataset(rows: Rows) -> Dataset:
        if kind == "prompts":
            return PromptDataset(rows, config, renderer)
        groups = GroupDataset(rows, config, renderer, kind)
        return WithCorruptedPictures(groups) if CORRUPTED in objective.roles else groups

    trained, held_out = rows, None
    if eval_data is not None or config.eval_source is not None:
        held_out = (
            load_rows(config, split="eval") if eval_data is None else rows_of(eval_data).with_system(config.system)
        )
    elif config.val_size > 0:
        train_indices, eval_indices = split_by_picture(rows, config.val_size, config.seed)
        trained, held_out = rows.select(train_indices), rows.select(eval_indices)
    summary = f"{len(rows):,} rows from {config.source or 'memory'} as {kind}"
    if held_out is not None:
        summary += f"; {len(held_out):,} held out for evaluation"
    return TrainingRows(train=dataset(trained), eval=None if held_out is None else dataset(held_out), summary=summary)


def kind_of(objective: Objective, rows: Rows) -> Kind:
    """What a row is to the objective: prompt, demonstration or pair; for unpaired preferences what the first one is."""
    if objective.num_responses is not None:
        return KINDS[objective.num_responses]
    first = rows.example(0)
    return "pairs" if len(first.responses) > 1 else "demonstrations"
