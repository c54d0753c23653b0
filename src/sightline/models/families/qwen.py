"""Qwen2-VL, Qwen2.5-VL, Qwen3-VL and Qwen3.5: positions on three axes (time, height, width), from the images' grids."""

from dataclasses import replace
from typing import Any, ClassVar

from transformers import PreTrainedModel
from transformers.models.qwen3_vl.modeling_qwen3_vl import BaseModelOutputWithDeepstackFeatures

from sightline.attention.fork import fork_of, mask_with
from sightline.models.families.delta_net import read_forks
from sightline.models.families.family import Family, Pieces, flatten
from sightline.types import Batch, Group


class QwenFamily(Family):
    """Every response starts after the largest position of the prompt, on all three axes."""

    projector_names = ("merger", "deepstack_merger_list")

    def place(self, group: Group) -> Group:
        placed = super().place(group)
        assert placed.positions is not None
        if not self.has_images(group):
            return replace(placed, positions=placed.positions.expand(3, -1))
        positions, _ = self.model.model.get_rope_index(
            group.prompt_ids[None],
            mm_token_type_ids=group.model_inputs["mm_token_type_ids"],
            image_grid_thw=group.model_inputs["image_grid_thw"],
        )
        return replace(placed, positions=positions[:, 0], next_position=int(positions.max()) + 1)


class DeepstackFamily(QwenFamily):
    """Qwen3-VL: features of several layers of the tower, added to as many layers of the language model."""

    def split(self, output: Any, groups: list[Group]) -> list[Pieces]:
        pieces = super().split(output, groups)
        lengths = [len(piece["pooled"]) for piece in pieces]
        for layer, features in enumerate(output.deepstack_features):
            for piece, part in zip(pieces, flatten(features).split(lengths), strict=True):
                piece[f"deepstack {layer}"] = part
        return pieces

    def join(self, pieces: list[Pieces | None], batch: Batch | None) -> dict[str, Any]:
        present = [piece for piece in pieces if piece is not None]
        if not present:
            return {}
        layers = [name for name in present[0] if name != "pooled"]
        pooled: Any = [piece["pooled"] for piece in present]
        deep: Any = [[piece[layer] for piece in present] for layer in layers]
        output = BaseModelOutputWithDeepstackFeatures(pooler_output=pooled, deepstack_features=deep)
        return {"mm_encoder_outputs": {"image": output}}


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
