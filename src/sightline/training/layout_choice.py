"""Which layout a run uses: the shared prefix where it is exact, the padded one elsewhere, and a line saying so."""

from collections.abc import Iterator, Sized
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from sightline.data.stream.stream import GroupStream
from sightline.forward.check import compare_layouts
from sightline.models.families.find import Family
from sightline.training.datasets import group_of
from sightline.types import Group

NUM_CANDIDATES = 16
"""Rows looked at to find one with an image and at least two responses."""


def choose_layout(model: nn.Module, family: Family, dataset: Dataset, *, wanted: str) -> tuple[str, str]:
    """(layout, reason). With `auto`, one real group goes through both layouts first; on disagreement: padded."""
    if wanted != "auto":
        return wanted, f"Layout: {wanted}, as in the recipe"
    if family.layout == "padded":
        return (
            "padded",
            f"Layout: padded, {family.name} is not exact with a shared prefix; images are still encoded once",
        )
    group = typical_group(dataset, family)
    if group is None:
        return "prefix", "Layout: shared prefix (no group to compare on)"
    if not group.responses:
        group = with_made_up_responses(group, family)
    comparison = compare_layouts(model, [family.place(group)])
    if comparison.agrees:
        return "prefix", f"Layout: shared prefix, equal to padded within {comparison.difference:.1e} on row {group.id}"
    return (
        "padded",
        f"Layout: padded, because the shared prefix differs by {comparison.difference:.1e} on row {group.id} (allowed "
        f"{comparison.allowed:.1e})",
    )


def with_made_up_responses(prompt: Group, family: Family) -> Group:
    """A prompt with two responses out of its own words: all that a comparison of layouts needs."""
    words = prompt.prompt_ids[~torch.isin(prompt.prompt_ids, torch.tensor(family.image_token_ids))]
    responses = (words[:8], words[-5:])
    return replace(prompt, responses=responses, weights=tuple(torch.ones(len(one)) for one in responses))


def typical_group(dataset: Dataset, family: Family) -> Group | None:
    """The first group with an image and two responses, else the first group, of the first few rows."""
    first = None
    for item in first_items(dataset):
        group = group_of(item)
        if group is not None:
            first = first or group
            if family.has_images(group) and len(group.responses) > 1:
                return group
    return first


def first_items(dataset: Dataset) -> Iterator[Any]:
    """The first few items."""
    if isinstance(dataset, GroupStream):
        return dataset.first(NUM_CANDIDATES)
    assert isinstance(dataset, Sized)
    return (dataset[index] for index in range(min(NUM_CANDIDATES, len(dataset))))
