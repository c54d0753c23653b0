"""Granite 4 Vision: features of several layers of the tower, each added in a layer of the language model."""

from typing import Any

import torch

from sightline.models.families.family import Family, Pieces, flatten
from sightline.types import Batch, Group


class GraniteFamily(Family):
    """Features go by pairs of a layer's number and what is added there."""

    def split(self, output: Any, groups: list[Group]) -> list[Pieces]:
        self.features_kind = type(output)
        counts = [self.num_placeholders(group) for group in groups]
        layers = [flatten(features).split(counts) for _, features in output.deepstack_features]
        numbers = [number for number, _ in output.deepstack_features]
        return [
            {f"layer {number}": parts[g] for number, parts in zip(numbers, layers, strict=True)}
            for g in range(len(groups))
        ]

    def join(self, pieces: list[Pieces | None], batch: Batch | None) -> dict[str, Any]:
        present = [piece for piece in pieces if piece is not None]
        if not present:
            return {}
        features = [(int(name.split()[1]), torch.cat([piece[name] for piece in present])) for name in present[0]]
        return {"mm_encoder_outputs": {"image": self.features_kind(deepstack_features=features)}}
