"""Llama 4: features are the tower's last hidden states, and most layers see chunks of the text."""

from typing import Any, ClassVar

from torch import Tensor
from transformers import PreTrainedModel
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sightline.layout import visible
from sightline.models.families.family import Family, Pieces
from sightline.types import Batch, Group


class Llama4Family(Family):
    """The projector runs inside the model's forward, after features that were computed before."""

    why_padded = "attention that is scaled by a token's column, which is another one in a shared row"
    layers: ClassVar[frozenset[str]] = Family.layers | {"chunked_attention"}

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        if self.text_config.attn_temperature_tuning:
            self.layout, self.decodes = "padded", False

    def split(self, output: Any, groups: list[Group]) -> list[Pieces]:
        return super().split(BaseModelOutputWithPooling(pooler_output=output.last_hidden_state), groups)

    def join(self, pieces: list[Pieces | None], batch: Batch | None) -> dict[str, Any]:
        joined = super().join(pieces, batch)
        if joined:
            features = joined["mm_encoder_outputs"]["image"].pooler_output
            joined["mm_encoder_outputs"]["image"] = BaseModelOutputWithPooling(last_hidden_state=features)
        return joined

    def masks(self, batch: Batch) -> Any:
        """A chunk begins at every so many positions of a prompt with its response."""
        chunk = batch.rank // self.text_config.attention_chunk_size
        within: Tensor = visible(batch) & (chunk[:, :, None] == chunk[:, None, :])
        return {"full_attention": self._mask(batch, None), "chunked_attention": self.mask_of(within[:, None])}
