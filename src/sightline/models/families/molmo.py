"""Molmo 2: all images of a prompt are one two-way block, and pooling reads the tower's patches by their number."""

from dataclasses import replace
from typing import Any

import torch

from sightline.models.families.family import Family
from sightline.types import Batch, Group

KINDS, POOLING = "mm_token_type_ids", "image_token_pooling"


class MolmoFamily(Family):
    """`image_token_pooling` counts the patches of all crops of a call; −1 is none."""

    prompt_is_causal = False

    def place(self, group: Group) -> Group:
        kinds = self.inputs_of(group).get(KINDS)
        placed = super().place(group)
        return placed if kinds is None else replace(placed, block=torch.where(kinds[0] == 1, 0, -1))

    def concatenate(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        done, counted = 0, []
        for one in inputs:
            if POOLING in one:
                one = {**one, POOLING: torch.where(one[POOLING] >= 0, one[POOLING] + done, -1)}
                done += one["pixel_values"].shape[:-1].numel()
            counted.append(one)
        return super().concatenate(counted)

    def grid_inputs(self, batch: Batch, groups: list[Group]) -> dict[str, Any]:
        # which it insists on in training, and does not read beside a mask that is finished
        return {KINDS: torch.zeros_like(batch.input_ids), **super().grid_inputs(batch, groups)}
