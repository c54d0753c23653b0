"""A vision tower in place of timm's, for types whose own comes from that library (which wants torchvision).

`stand_in_for_timm()` lets transformers build it from their configs. It cuts an image into patches and projects them:
a map [images, channels, rows, columns], or tokens with a class token before them where the config names `embed_dim`,
as a type of vision transformer does. Which tower makes the features says nothing about layouts.
"""

from typing import Any

import torch
import transformers as hf
from torch import Tensor, nn
from transformers.modeling_outputs import BaseModelOutputWithPooling

from sightline.rehearsal.tiny_config import PATCH


class TimmTower(hf.PreTrainedModel):
    """One linear layer over patches."""

    config_class = hf.TimmWrapperConfig
    main_input_name = "pixel_values"
    _supports_sdpa = True

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.is_flat = "embed_dim" in (config.model_args or {})
        width = config.model_args["embed_dim"] if self.is_flat else config.hidden_size
        self.patches = nn.Conv2d(3, width, PATCH, PATCH)
        self.post_init()

    def forward(self, pixel_values: Tensor, **_: Any) -> BaseModelOutputWithPooling:
        seen = self.patches(pixel_values)
        if self.is_flat:
            tokens = seen.flatten(2).transpose(1, 2)
            seen = torch.cat([tokens.mean(1, keepdim=True), tokens], 1)
        return BaseModelOutputWithPooling(last_hidden_state=seen)


class Gemma3nTower(TimmTower):
    """The same from Gemma 3n's config."""

    config_class = hf.Gemma3nVisionConfig


def stand_in_for_timm() -> None:
    """In this process, let `AutoModel` build the stand-in from the configs of timm's towers."""
    for tower in (TimmTower, Gemma3nTower):
        hf.AutoModel.register(tower.config_class, tower, exist_ok=True)
