"""HunYuan-VL: an image's number is one of its positions, and transformers counts it on over the rows of a batch."""

from typing import Any

import torch

from sightline.layout.grid import stack_rows
from sightline.models.families.family import Family
from sightline.types import Batch, Group


class HunYuanFamily(Family):
    """Padded rows, too, get their positions from here: those of a prompt by itself."""

    def grid_inputs(self, batch: Batch, groups: list[Group]) -> dict[str, Any]:
        inputs = super().grid_inputs(batch, groups)
        if batch.position_ids is None:
            length = batch.input_ids.shape[1]
            rows = []
            for group in groups:
                prompt = self.positions(group)
                later = prompt.max() + 1 + torch.arange(length - prompt.shape[-1])
                rows.append(torch.cat([prompt, later.expand(len(prompt), -1)], -1))
            inputs["position_ids"] = stack_rows(rows, 0).to(batch.input_ids.device)
        return inputs
