"""Which layout a run uses: the shared prefix where it is exact, the padded one elsewhere, and a line saying so."""

from collections.abc import Iterator, Sized
from dataclasses import replace
from typing import Any

import torch
from torch import nn
from torch.utils.data import Dataset

from sightline.data.stream.stream import GroupStream
from sightline.errors import ModelError
from sightline.forward.check import Comparison, compare_layouts, compare_with_own
from sightline.models.families.find import Family
from sightline.training.datasets import group_of
from sightline.types import Group

NUM_CANDIDATES = 16
"""Rows looked at to find one with an image and at least two responses."""


def choose_layout(model: nn.Module, family: Family, dataset: Dataset, *, wanted: str) -> tuple[str, str]:
    """(layout, reason). With `auto`, one real group goes through both layouts first; on disagreement: padded.

    A type that Sightline does not know is tried whatever is wanted: raises `ModelError` where its padded log-probs are
    not what the model itself says, or where the shared prefix is wanted and differs.
    """
    if wanted != "auto" and family.is_known:
        return wanted, f"Layout: {wanted}, as in the recipe"
    if family.is_known and family.layout == "padded":
        return "padded", f"Layout: padded, {family.name} has {family.why_padded}; images are still encoded once"
    group = typical_group(dataset, family)
    if group is not None and not group.responses:
        group = with_made_up_responses(group, family)
    if not family.is_known:
        return _tried(model, family, group, wanted)
    if group is None:
        return "prefix", "Layout: shared prefix (no group to compare on)"
    comparison = compare_layouts(model, [family.place(group)])
    if comparison.agrees:
        return "prefix", _shared(comparison, group)
    return "padded", f"Layout: padded, because {_differs(comparison, group)}"


def describe_attention(family: Family) -> str:
    """Which attention kernel serves the shared prefix, where the model is and as it is called now."""
    found = f"attention: {family.kernel(family.model.device)}"
    if family.window is None:
        return found
    return f"{found}; a dense mask in layers with a window, in rows longer than its {family.window} tokens"


def _tried(model: nn.Module, family: Family, group: Group | None, wanted: str) -> tuple[str, str]:
    """The layout of a type that is not known: what one group shows."""
    new = f"{family.name}, a type that is new here"
    if group is None:
        return "padded", f"Layout: padded ({new}, and no group to compare on)"
    own = compare_with_own(model, group)
    if not own.agrees:
        raise ModelError(
            f"Models of type {family.name!r} cannot be trained as they are: on row {group.id} their log-probs differ "
            f"by {own.difference:.1e} nats from what the model itself says (allowed {own.allowed:.1e}). Something in "
            "their forward pass is not known here; docs/extending.md says how a family is added (`model.family`)."
        )
    if wanted == "padded":
        return "padded", f"Layout: padded, as in the recipe ({new})"
    found = f"it has {family.why_padded}" if family.layout == "padded" else _try_shared(model, family, group)
    if isinstance(found, Comparison):
        return "prefix", f"{_shared(found, group)} ({new})"
    if wanted == "prefix":
        raise ModelError(f"`layout: prefix` is not exact for {new}: {found}. Set `layout: auto` or `layout: padded`.")
    return "padded", f"Layout: padded ({new}), because {found}"


def _try_shared(model: nn.Module, family: Family, group: Group) -> Comparison | str:
    """The comparison where both layouts agree, else what is wrong."""
    try:
        comparison = compare_layouts(model, [family.place(group)])
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # whatever a type's own code raises for our mask and positions is the answer
        said = (str(error).strip().splitlines() or ["no message"])[0]
        return f"the shared prefix fails with {type(error).__name__}: {said[:200]}"
    return comparison if comparison.agrees else _differs(comparison, group)


def _shared(comparison: Comparison, group: Group) -> str:
    return f"Layout: shared prefix, equal to padded within {comparison.difference:.1e} on row {group.id}"


def _differs(comparison: Comparison, group: Group) -> str:
    return (
        f"the shared prefix differs by {comparison.difference:.1e} on row {group.id} (allowed {comparison.allowed:.1e})"
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
