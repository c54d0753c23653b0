"""Qwen2-VL, Qwen2.5-VL and Qwen3-VL: positions on three axes (time, height, width), from the pictures' grids."""

from dataclasses import replace

from sightline.policy.family import Family
from sightline.types import Group


class QwenFamily(Family):
    """Every response starts behind the largest position of the prompt, on all three axes."""

    along_pictures = ("image_grid_thw",)
    projector_names = ("merger", "deepstack_merger_list")

    def place(self, group: Group) -> Group:
        placed = super().place(group)
        assert placed.positions is not None
        if not self.has_pictures(group):
            return replace(placed, positions=placed.positions.expand(3, -1))
        positions, _ = self.model.model.get_rope_index(
            group.prompt_ids[None],
            mm_token_type_ids=group.model_inputs["mm_token_type_ids"],
            image_grid_thw=group.model_inputs["image_grid_thw"],
        )
        return replace(placed, positions=positions[:, 0], next_position=int(positions.max()) + 1)
