"""Chameleon and Emu3: a frozen VQ-VAE turns images into tokens of the vocabulary; their embeddings are the features."""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cached_property

import torch
from torch import Tensor

from sightline.models.families.family import Family, written_in


class TokenizedFamily(Family):
    """Features are no longer those that were computed once when the embeddings are trained."""

    features_are_embeddings = True

    @property
    def vision_name(self) -> str:
        return "model.vqmodel"

    @cached_property
    def never_predicted(self) -> Tensor | None:
        if "[:, :, image_tokens] =" not in written_in(type(self.model)):
            return None
        return torch.tensor(self.model.model.vocabulary_mapping.image_tokens)

    @contextmanager
    def uncapped(self) -> Iterator[None]:
        mapping = self.model.model.vocabulary_mapping
        image_tokens = mapping.image_tokens
        # a cached property of the mapping, by which the model's forward excludes them
        vars(mapping)["image_tokens"] = []
        try:
            with super().uncapped():
                yield
        finally:
            vars(mapping)["image_tokens"] = image_tokens
