"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: positions on three axes (time, height, width), from the images' grids."""

from typing import Any, ClassVar

from transformers import PreTrainedModel

from sightline.attention.fork import fork_of, mask_with
from sightline.models.families.delta_net import read_forks
from sightline.models.families.family import Family
from sightline.types import Batch


class QwenFamily(Family):
    """Every response starts after the largest position of the prompt, on all three axes."""


class HybridFamily(QwenFamily):
    """Qwen3.5: most layers are gated delta nets, whose state at the end of a prompt is forked to its responses."""

    forks_states: ClassVar[bool] = True
    layers: ClassVar[frozenset[str]] = QwenFamily.layers | {"linear_attention"}

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        read_forks(model)

    def masks(self, batch: Batch) -> Any:
        """The visibility for layers of attention, the fork of the prompts' states for the others."""
        reach = self.text_config.linear_conv_kernel_dim - 1
        return {"full_attention": super().masks(batch), "linear_attention": mask_with(fork_of(batch, reach))}
