"""NaN or Inf in a step: it is not taken, and the rows that did it are written for `sightline data show` to read."""

import math
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import torch
from torch import nn

from sightline.data.export import export
from sightline.data.render.dataset import GroupDataset
from sightline.data.rows import Entry
from sightline.data.stream.stream import GroupStream
from sightline.forward.reference import AnyReference
from sightline.objectives.objective import Objective, State
from sightline.training.step.metrics import Means
from sightline.training.step.micro_batch import StepSettings
from sightline.training.step.step import train_step
from sightline.types import Group

FOLDER = "nonfinite"


def is_finite(value: Any) -> bool:
    """Of a number or a tensor with one element."""
    return math.isfinite(float(value))


def offenders(
    model: nn.Module,
    groups: list[Group],
    objective: Objective,
    reference: AnyReference | None,
    settings: StepSettings,
    state: State,
) -> list[Group]:
    """Those of the groups that give NaN or Inf in loss or gradient when they are alone; all where none does.

    model: not wrapped, with weights of its own (not sharded). settings: of a single process. Gradients are lost.
    """
    found = []
    for group in groups:
        model.zero_grad()
        loss = train_step(
            model,
            [group],
            objective,
            reference,
            settings,
            state=dict(state),
            backward=lambda loss: torch.autograd.backward(loss),
            means=Means(),
        )
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        if not is_finite(loss) or not all(bool(g.isfinite().all()) for g in gradients):
            found.append(group)
    model.zero_grad()
    return found or groups


def write_offenders(path: Path, dataset: Any, groups: list[Group], found: list[Group], settings: StepSettings) -> str:
    """Write the rows that gave NaN or Inf, of all processes, to `path`; a sentence about them. Every process calls it.

    dataset: that the rows come from. groups: this process's groups of the step. found: those of them that did it; all
    where it cannot be found out.
    """
    is_all = len(found) == len(groups)
    gathered = settings.gather((names_of(found), is_all))
    names = [name for part, _ in gathered for name in part]
    if not all(whole for _, whole in gathered):
        # some process found its offenders: those that did not have none
        names = [name for part, whole in gathered if not whole for name in part]
    written = write_rows(path, dataset, names) if settings.process_index == 0 else 0
    (written, *_) = settings.gather(written)
    if not written:
        return f"Its rows: {', '.join(names[:8])}."
    return f"{written} of its rows are in {path}: `sightline data show {path}` draws them."


def write_rows(path: Path, dataset: Any, names: Iterable[str]) -> int:
    """Write the rows with these ids as parquet with embedded images; returns how many were found."""
    wanted = set(names)
    entries = list(_entries(dataset, wanted))
    if not entries:
        return 0
    return export(entries, entries, path, skip=True).num_rows


def names_of(groups: list[Group]) -> list[str]:
    """Ids of the rows in these groups; several rows on one image are one group."""
    return [name for group in groups for name in group.id.split("+")]


def _entries(dataset: Any, wanted: set[str]) -> Iterator[Entry]:
    if isinstance(dataset, GroupStream):
        for entry in dataset.entries():
            if entry.name in wanted:
                yield entry
                wanted = wanted - {entry.name}
            if not wanted:
                return
        return
    groups = dataset
    while not isinstance(groups, GroupDataset):  # prompts and pairs with corrupted images hold one
        groups = groups.groups if hasattr(groups, "groups") else groups.dataset
    for index in range(len(groups.rows)):
        if groups.rows.name(index) in wanted:
            yield groups.rows.entry(index)
