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


def write_rows(path: Path, dataset: Any, names: Iterable[str]) -> int:
    """Write the rows with these ids as parquet with embedded pictures; returns how many were found."""
    wanted = set(names)
    entries = list(_entries(dataset, wanted))
    if not entries:
        return 0
    return export(entries, entries, path, skip=True).num_rows


def names_of(groups: list[Group]) -> list[str]:
    """Ids of the rows in these groups; several rows on one picture are one group."""
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
    while not isinstance(groups, GroupDataset):  # prompts and pairs with corrupted pictures hold one
        groups = groups.groups if hasattr(groups, "groups") else groups.dataset
    for index in range(len(groups.rows)):
        if groups.rows.name(index) in wanted:
            yield groups.rows.entry(index)
