"""Image features, computed once a group and shared by policy, reference and every response."""

from dataclasses import dataclass, replace

import torch
from torch import nn

from sightline.models.families.family import Family, Pieces
from sightline.models.families.find import family_of
from sightline.models.unwrap import in_eval_mode
from sightline.types import Group

ELEMENTS_A_CALL = 2**24
"""Pixel values that go through the tower at a time: 16 M, some 40 tiles of 384 × 384."""


@dataclass(frozen=True, kw_only=True)
class Features:
    """What the vision tower made of the images of some groups, in the groups' order; None for a group without."""

    family: Family
    pieces: tuple[Pieces | None, ...]

    def select(self, indices: list[int]) -> "Features":
        """The features of these groups, in this order; a group may come more than once."""
        return replace(self, pieces=tuple(self.pieces[i] for i in indices))


def encode(model: nn.Module, groups: list[Group]) -> Features | None:
    """Send the images of all groups through the frozen tower and projector, each once, without gradient.

    model: wrapped or bare. Returns None where features cannot be shared: tower or projector train (their gradient must
    pass through the wrapped model's own call), or the model takes no features; pixels then go through the forward.
    """
    return None if trains_vision(family_of(model)) else encode_as_it_is(model, groups)


def encode_as_it_is(model: nn.Module, groups: list[Group]) -> Features | None:
    """As `encode`, with whatever weights the tower has now: for answers, through which no gradient passes."""
    family = family_of(model)
    if not family.can_share_features:
        return None
    pieces: list[Pieces | None] = [None] * len(groups)
    # a frozen tower drops nothing out and needs no checkpointing, whatever the mode of the rest
    with torch.no_grad(), in_eval_mode(family.model):
        for part in _parts(family, groups):
            for g, piece in zip(part, family.encode([groups[g] for g in part]), strict=True):
                pieces[g] = piece
    return Features(family=family, pieces=tuple(pieces))


def trains_vision(family: Family) -> bool:
    """Whether any weight (or adapter) is trained that features depend on: of tower or projector, or the embeddings of a
    model whose images become tokens."""
    trained = [name for name, p in family.model.named_parameters() if p.requires_grad]
    if family.features_are_embeddings and any("embed_tokens" in name for name in trained):
        return True
    return any(family.part_of(name) in ("vision", "projector") for name in trained)


def _parts(family: Family, groups: list[Group]) -> list[list[int]]:
    """Groups with images, cut into calls of the tower of at most ELEMENTS_A_CALL pixel values."""
    parts: list[list[int]] = []
    used = 0
    for g, group in enumerate(groups):
        if not family.has_images(group):
            continue
        size = family.num_pixels(group)
        if not parts or used + size > ELEMENTS_A_CALL:
            parts.append([])
            used = 0
        parts[-1].append(g)
        used += size
    return parts
