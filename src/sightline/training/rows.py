"""The rows of a run: where they come from, which are held out, and as what kind of group they are read."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.data import Dataset

from sightline.config import DataConfig, Recipe
from sightline.data.corrupt import WithCorruptedPictures
from sightline.data.dataset import GroupDataset, Kind
from sightline.data.holdout import split_by_picture
from sightline.data.passes import Passes
from sightline.data.render import Renderer
from sightline.data.rows import Rows
from sightline.data.sources import load_rows, rows_of, streams_in_python, streams_of
from sightline.data.stream import GroupStream
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
        raise RecipeError(
            "The recipe names no data. Give `data.source` (a file, folder, hub id or `scenes`), `data.registry` with "
            "`names`, or `data.mixture`."
        )
    if config.streaming:
        return streamed_rows(recipe, objective, processor, data=data, eval_data=eval_data)
    rows = rows_of(data).with_system(config.system) if data is not None else _all_rows(recipe, processor, model)
    if len(rows) == 0:
        raise DataError(f"{name_of(config)} has no rows.")
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
    summary = f"{len(rows):,} rows from {name_of(config)} as {kind}"
    if held_out is not None:
        summary += f"; {len(held_out):,} held out for evaluation"
    return TrainingRows(train=dataset(trained), eval=None if held_out is None else dataset(held_out), summary=summary)


def _all_rows(recipe: Recipe, processor: Any, model: nn.Module) -> Rows:
    """The rows that the recipe names, scenes drawn."""
    if recipe.data.source != "scenes":
        return load_rows(recipe.data)
    from sightline.scenes.rows import for_recipe

    return rows_of(for_recipe(recipe.data, recipe.objective.type, model=model, processor=processor), source="scenes")


def name_of(config: DataConfig) -> str:
    """What the rows are from, as it is said to the user."""
    return config.source or ", ".join(config.names) or ", ".join(s.source for s in config.mixture) or "memory"


def streamed_rows(
    recipe: Recipe, objective: Objective, processor: Any, *, data: Any = None, eval_data: Any = None
) -> TrainingRows:
    """The recipe's rows, read from front to back; held-out rows have a source of their own. Raises `RecipeError`."""
    config = recipe.data
    if config.source == "scenes" and data is None:
        raise RecipeError("data.streaming: scenes are drawn, not read. Leave data.streaming out.")
    if recipe.max_steps <= 0:
        raise RecipeError(
            "data.streaming reads rows without counting them, so the schedule needs `max_steps`. Give the number of "
            "optimizer steps."
        )
    streams = streams_of(config) if data is None else streams_in_python(data, config.system)
    first = Passes(streams, seed=None).next()
    assert first is not None, "the first pass begins with a row, or raises"
    kind: Kind = "pairs" if objective.num_responses is None else KINDS[objective.num_responses]
    if objective.num_responses is None and len(first.example().responses) < 2:
        kind = "demonstrations"
    renderer = Renderer(processor, max_length=config.max_length, on_overlong=config.on_overlong)
    train = GroupStream(
        streams,
        config,
        renderer,
        kind,
        seed=recipe.seed,
        shuffle=recipe.shuffle,
        corrupt=CORRUPTED in objective.roles,
    )
    summary = f"Rows streamed from {'memory' if data is not None else name_of(config)} as {kind}"
    if eval_data is None and config.eval_source is None:
        return TrainingRows(train=train, eval=None, summary=summary)
    held_out = rows_of(eval_data).with_system(config.system) if eval_data is not None else load_rows(config, "eval")
    groups = GroupDataset(held_out, config, renderer, kind)
    return TrainingRows(
        train=train,
        eval=WithCorruptedPictures(groups) if CORRUPTED in objective.roles else groups,
        summary=f"{summary}; {len(held_out):,} held out for evaluation",
    )


def kind_of(objective: Objective, rows: Rows) -> Kind:
    """What a row is to the objective: prompt, demonstration or pair; for unpaired preferences what the first one is."""
    if objective.num_responses is not None:
        return KINDS[objective.num_responses]
    first = rows.example(0)
    return "pairs" if len(first.responses) > 1 else "demonstrations"
