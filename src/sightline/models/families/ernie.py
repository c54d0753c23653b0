"""ERNIE 4.5 VL: tokens of images and of text have experts of their own, and the model is told which is which."""

from typing import Any

import torch

from sightline.models.families.family import Family
from sightline.types import Batch, Group

KINDS = "moe_mm_token_type_ids"


class ErnieFamily(Family):
    """Responses are text."""

    def grid_inputs(self, batch: Batch, groups: list[Group]) -> dict[str, Any]:
        inputs = super().grid_inputs(batch, groups)
        if batch.position_ids is None:
            return inputs
        prompt = batch.segment == 0
        number = (prompt & (batch.rank == 0)).flatten().cumsum(0).view_as(prompt) - 1
        kinds = torch.zeros_like(batch.input_ids)
        for p, group in enumerate(groups):
            kinds[prompt & (number == p)] = self.inputs_of(group)[KINDS][0].to(kinds)
        return {**inputs, KINDS: kinds}
