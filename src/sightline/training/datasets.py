"""The rows of a run: where they come from, which are held out, and which of them this process reads for each step.

A step's rows are the same however many processes there are, each in exactly one of them; the last step of a pass may
have fewer, and then a process may have none. The library's own sharding repeats rows so that all have as many.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, Sampler

from sightline.config import DataConfig, Recipe
from sightline.data.checks.frames import frames_note
from sightline.data.defects import RowError
from sightline.data.holdout import split_by_image
from sightline.data.render.corrupt import WithCorruptedImages
from sightline.data.render.dataset import GroupDataset, Kind
from sightline.data.render.render import renderer_of
from sightline.data.rows import Entry, Rows
from sightline.data.sources.load import load_rows, rows_given, rows_of, streams_in_python, streams_of
from sightline.data.stream.loader_workers import FinishesStepOnTermination
from sightline.data.stream.passes import Passes
from sightline.data.stream.stream import GroupStream
from sightline.errors import DataError, RecipeError
from sightline.objectives.objective import Objective
from sightline.objectives.roles import CORRUPTED
from sightline.rollouts.prompts import PromptDataset
from sightline.types import BadRow, Example, Group, Prompt

KINDS: dict[int, Kind] = {0: "prompts", 1: "demonstrations", 2: "pairs"}
"""What a row is to an objective, by how many responses it needs."""


@dataclass(frozen=True, kw_only=True)
class TrainingRows:
    """Data sets of groups to train on and to evaluate on, and a line that describes them."""

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
    as_prompts: bool = False,
) -> TrainingRows:
    """Read the recipe's rows, or take the given ones. Raises `DataError` when there are none.

    as_prompts: rows are prompts alone, whatever the objective is over: steps sample their own completions.
    """
    config = recipe.data
    if data is None and not config.is_given:
        raise RecipeError(
            "The recipe names no data. Give `data.source` (a file, folder, hub id or `scenes`), `data.registry` with "
            "`names`, or `data.mixture`."
        )
    if config.streaming:
        return streamed_rows(recipe, objective, processor, data=data, eval_data=eval_data)
    rows = rows_given(data, config) if data is not None else _all_rows(recipe, processor, model, as_prompts)
    if len(rows) == 0:
        raise DataError(f"{name_of(config)} has no rows.")
    renderer = renderer_of(processor, config)
    kind: Kind = "prompts" if as_prompts else kind_of(objective, rows)

    def dataset(rows: Rows) -> Dataset:
        if kind == "prompts":
            return PromptDataset(rows, config, renderer)
        groups = GroupDataset(rows, config, renderer, kind)
        return WithCorruptedImages(groups) if CORRUPTED in objective.roles else groups

    trained, held_out = rows, None
    if eval_data is not None or config.eval_source is not None:
        held_out = load_rows(config, split="eval") if eval_data is None else rows_given(eval_data, config)
    elif config.val_size > 0:
        train_indices, eval_indices = split_by_image(rows, config.val_size, config.seed)
        trained, held_out = rows.select(train_indices), rows.select(eval_indices)
    evaluated = None if held_out is None else dataset(held_out)
    if evaluated is not None:
        require_a_good_row(evaluated)
    summary = summary_of(rows, held_out, kind, config)
    return TrainingRows(train=dataset(trained), eval=evaluated, summary=summary)


def summary_of(rows: Rows, held_out: Rows | None, kind: Kind, config: DataConfig) -> str:
    """What a run's rows are."""
    said = f"{len(rows):,} rows from {name_of(config)} as {kind}"
    if held_out is not None:
        said += f"; {len(held_out):,} held out for evaluation"
    return said if config.source == "scenes" else with_frames_note(said, rows.entries())


def with_frames_note(summary: str, entries: Iterable[Entry]) -> str:
    """The summary, and a sentence where some of the first rows' images have several pages or frames."""
    note = frames_note(entries)
    return summary if note is None else f"{summary}. {note}"


def require_a_good_row(held_out: Any) -> None:
    """Read held-out rows up to the first good one: that none is there is said before training and not after it.

    Raises `DataError` for that, and for a bad row before it that is not to be skipped.
    """
    first = None
    for index in range(len(held_out)):
        item = held_out[index]
        if not isinstance(item, BadRow):
            return
        first = first or item
        if not item.skip:
            break
    said = f" The first says: {first.message}" if first is not None else " There is none."
    raise DataError(f"No held-out row can be evaluated on, so the run would end without figures.{said}")


def _all_rows(recipe: Recipe, processor: Any, model: nn.Module, as_prompts: bool) -> Rows:
    """The rows that the recipe names; scenes are drawn."""
    if recipe.data.source != "scenes":
        return load_rows(recipe.data)
    from sightline.scenes.rows import SAMPLED, for_recipe

    wanted = SAMPLED[0] if as_prompts else recipe.objective.type
    return rows_of(for_recipe(recipe.data, wanted, model=model, processor=processor), source="scenes")


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
    streams = streams_of(config) if data is None else streams_in_python(data, config)
    first = Passes(streams, seed=None).next()
    assert first is not None, "the first pass begins with a row, or raises"
    kind: Kind = "pairs" if objective.num_responses is None else KINDS[objective.num_responses]
    if objective.num_responses is None and len(first.example().responses) < 2:
        kind = "labelled responses"
    renderer = renderer_of(processor, config)
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
        return TrainingRows(train=train, eval=None, summary=with_frames_note(summary, train.entries()))
    held_out = rows_given(eval_data, config) if eval_data is not None else load_rows(config, "eval")
    groups = GroupDataset(held_out, config, renderer, kind)
    require_a_good_row(groups)
    return TrainingRows(
        train=train,
        eval=WithCorruptedImages(groups) if CORRUPTED in objective.roles else groups,
        summary=with_frames_note(f"{summary}; {len(held_out):,} held out for evaluation", train.entries()),
    )


def kind_of(objective: Objective, rows: Rows) -> Kind:
    """What a row is to the objective: prompt, demonstration or pair; for unpaired preferences what the first one is."""
    if objective.num_responses is not None:
        return KINDS[objective.num_responses]
    first = _first_example(rows)
    return "pairs" if len(first.responses) > 1 else "labelled responses"


def _first_example(rows: Rows) -> Example:
    """That of the first row that can be read. Raises `RowError`, of the first row, where none can."""
    wrong: RowError | None = None
    for index in range(len(rows)):
        try:
            return rows.example(index)
        except RowError as error:
            wrong = wrong or error
    assert wrong is not None
    raise wrong


def name_of(config: DataConfig) -> str:
    """What the rows are from, in words for the user."""
    return config.source or ", ".join(config.names) or ", ".join(s.source for s in config.mixture) or "memory"


Costs = Sequence[float | int]
"""Tokens of each row."""


class StepBatches(Sampler[list[int]]):
    """A batch sampler: the row numbers of this process, a list a step.

    rows_a_step: of all `world` processes. seed: of the order; None keeps the rows' own. costs: tokens of each row, by
    which the rows of a step are shared out; without them each process takes as many rows as the next, in their order.
    """

    def __init__(
        self,
        num_rows: int,
        rows_a_step: int,
        *,
        seed: int | None,
        rank: int = 0,
        world: int = 1,
        costs: Costs | None = None,
    ) -> None:
        self.num_rows, self.rows_a_step, self.seed = num_rows, rows_a_step, seed
        self.rank, self.world, self.costs = rank, world, costs
        self.epoch = self.first_step = 0

    def __len__(self) -> int:
        return -(-self.num_rows // self.rows_a_step)

    def __iter__(self) -> Iterator[list[int]]:
        order = self.order()
        for start in range(self.first_step * self.rows_a_step, self.num_rows, self.rows_a_step):
            rows = order[start : start + self.rows_a_step]
            costs = None if self.costs is None else [self.costs[row] for row in rows]
            yield [rows[i] for i in shares(len(rows), self.world, costs)[self.rank]]

    def order(self) -> list[int]:
        """Row numbers in the order of this pass over the data."""
        if self.seed is None:
            return list(range(self.num_rows))
        return torch.randperm(self.num_rows, generator=torch.Generator().manual_seed(self.seed + self.epoch)).tolist()

    def start_pass(self, epoch: int, first_step: int = 0) -> None:
        """The next iteration is over pass `epoch`, from one of its steps on."""
        self.epoch, self.first_step = epoch, first_step


def shares(num_rows: int, world: int, costs: Costs | None) -> list[list[int]]:
    """Row numbers for each process. With costs: the longest first, each to the process with the least so far.

    (Graham's longest-processing-time rule: at most 4/3 of the best possible; near it when rows are many.)
    """
    if costs is None:
        size = -(-num_rows // world)
        return [list(range(num_rows))[r * size : (r + 1) * size] for r in range(world)]
    taken: list[list[int]] = [[] for _ in range(world)]
    load = [0.0] * world
    for row in sorted(range(num_rows), key=lambda row: -costs[row]):
        least = min(range(world), key=load.__getitem__)
        taken[least].append(row)
        load[least] += costs[row]
    return [sorted(rows) for rows in taken]


class StepLoader(DataLoader):
    """Reads the rows of `StepBatches`; draws nothing from the global random state."""

    def __init__(self, dataset: Dataset, batches: StepBatches, *, collate_fn: Callable, **options: Any) -> None:
        super().__init__(
            dataset,
            batch_sampler=batches,
            collate_fn=collate_fn,
            generator=torch.Generator().manual_seed(batches.seed or 0),
            worker_init_fn=FinishesStepOnTermination(),
            **options,
        )
        self.batches = batches


def collate(items: list[Group | BadRow]) -> dict[str, list]:
    """A Trainer batch must be a dict; nothing is padded before the step is cut."""
    groups = [item for item in items if isinstance(item, Group)]
    return {
        "groups": groups,
        "bad_rows": [row for item in items for row in bad_rows(item)],
        "truncated": [(name, number) for group in groups for name, number in truncated_rows(group).items()],
    }


def group_of(item: Group | Prompt | BadRow) -> Group | None:
    """The group of an item of any data set; None of a bad row."""
    if isinstance(item, Prompt):
        return item.group
    return None if isinstance(item, BadRow) else item


def bad_rows(item: Group | BadRow) -> tuple[BadRow, ...]:
    """The bad rows that an item is, or that were left out of it."""
    return (item,) if isinstance(item, BadRow) else item.left_out


def truncated_rows(group: Group) -> dict[str, int]:
    """Names of the rows in a group that `data.max_length` trimmed → how many of their responses."""
    parts = (*group.companions, group)
    return {name: number for part in parts for name, number in part.truncated.items()}


def row_costs(dataset: Any) -> Costs | None:
    """Tokens of each item of a data set; None where they are not known before it is read (`data.cache_tokens`)."""
    groups = getattr(dataset, "dataset", dataset)
    if not isinstance(groups, GroupDataset) or groups.cache is None:
        return None
    lengths = groups.cache.lengths.tolist()
    return lengths if groups.items is None else [sum(lengths[row] for row in rows) for rows in groups.items]


class RowsSeen:
    """What this run has read of its rows; a `Part` of a checkpoint.

    num_tokens: of this process's groups. bad: names of rows that were left out → why, of all processes as of the last
    `gather`. truncated: those that were trimmed.
    """

    def __init__(self) -> None:
        self.num_tokens = 0
        self.bad: dict[str, str] = {}
        self.truncated = TruncatedRows()

    def see(self, inputs: dict[str, list]) -> None:
        """Take in a batch of `collate`. Raises `DataError` for a bad row that may not be left out."""
        self.see_bad(inputs["bad_rows"])
        self.truncated.see(inputs["truncated"])

    def see_bad(self, rows: Iterable[BadRow]) -> None:
        """Take in rows that are left out. Raises `DataError` for one that may not be."""
        for row in rows:
            if not row.skip:
                raise DataError(row.message)
            self.bad[row.id] = row.message

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """Share what each process has seen. Every process calls it. gather: lists an object of every process."""
        for bad in gather(self.bad):
            self.bad |= bad
        self.truncated.gather(gather)

    def figures(self) -> dict[str, int]:
        """How many rows were left out and trimmed; nothing where there were none."""
        counts = {"rows_skipped": len(self.bad), "rows_truncated": len(self.truncated.known)}
        return {name: count for name, count in counts.items() if count}

    def state(self) -> dict[str, Any]:
        """What `load_state` takes."""
        return {"num_tokens": self.num_tokens, "bad": self.bad, "truncated": self.truncated.state()}

    def load_state(self, state: dict[str, Any]) -> None:
        """Put back what `state` gave."""
        self.num_tokens = state["num_tokens"]
        self.bad.update(state["bad"])
        self.truncated.load_state(state["truncated"])


class TruncatedRows:
    """Rows of which `data.max_length` trimmed responses.

    known: names of rows of all processes → how many of their responses were trimmed, as of the last `gather`.
    """

    def __init__(self) -> None:
        self.known: dict[str, int] = {}
        self._fresh: dict[str, int] = {}

    def see(self, rows: Iterable[tuple[str, int]]) -> None:
        """Names of trimmed rows that this process read, and how many of their responses were trimmed."""
        self._fresh.update((name, number) for name, number in rows if name not in self.known)

    def gather(self, gather: Callable[[Any], list[Any]]) -> None:
        """Share rows that are new since the last time. Every process calls it. gather: lists an object of each."""
        for fresh in gather(self._fresh):
            self.known |= fresh
        self._fresh = {}

    def state(self) -> dict[str, int]:
        """What `load_state` takes."""
        return {**self.known, **self._fresh}

    def load_state(self, rows: dict[str, int]) -> None:
        """Put back what `state` gave; the next `gather` shares it."""
        self.known, self._fresh = {}, dict(rows)

    def sentence(self, max_length: int | None) -> str:
        """A line for the end of a run; empty where nothing was trimmed."""
        if not self.known:
            return ""
        rows = f"{len(self.known):,} rows were" if len(self.known) > 1 else "1 row was"
        return f"{rows} trimmed to `data.max_length` ({max_length:,} tokens); the first: {next(iter(self.known))}"
