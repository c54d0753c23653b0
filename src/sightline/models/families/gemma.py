"""PaliGemma and Gemma 3: prompts, or the images in them, that see themselves in both directions."""

from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.errors import ModelError
from sightline.models.families.family import Family
from sightline.types import Batch, Group


class PaliGemmaFamily(Family):
    """PaliGemma 1 and 2: the whole prompt is one two-way block, positions count from 1."""

    prompt_is_causal = False
    along_tokens: ClassVar[dict[str, int]] = {"token_type_ids": 1}

    @property
    def softcap(self) -> float | None:
        # PaliGemma 2 is built on Gemma 2, whose last logits are capped
        return getattr(self.text_config, "final_logit_softcapping", None)

    def place(self, group: Group) -> Group:
        placed = super().place(group)
        assert placed.positions is not None
        return replace(
            placed,
            positions=placed.positions + 1,
            next_position=placed.next_position + 1,
            block=_blocks(group, inside=0, every_run_its_own=False),
        )

    def masks(self, batch: Batch) -> Any:
        """One mask for all layers: PaliGemma 2 takes no other from outside, and its window is 4096 tokens."""
        window, longest = self.window, int(batch.on_host.rank.max()) + 1
        if window is not None and longest > window:
            raise ModelError(
                f"A prompt with its response has {longest} tokens; some layers of this {self.name} model see {window}, "
                "which the prefix layout cannot tell it. Set `layout: padded`, or a smaller `data.max_length`."
            )
        return self._mask(batch, None)


class Gemma3Family(Family):
    """Gemma 3: each image is a two-way block, and most layers have a sliding window."""

    prompt_is_causal = False
    along_tokens: ClassVar[dict[str, int]] = {"token_type_ids": 0}

    def place(self, group: Group) -> Group:
        return replace(super().place(group), block=_blocks(group, inside=1, every_run_its_own=True))


def _blocks(group: Group, *, inside: int, every_run_its_own: bool) -> Int[Tensor, " prompt"]:
    """The number of each token's two-way block, from the processor's token types; −1 outside of blocks."""
    if "token_type_ids" not in group.model_inputs:
        return torch.full_like(group.prompt_ids, -1)
    within = group.model_inputs["token_type_ids"][0] == inside
    if not every_run_its_own:
        return torch.where(within, 0, -1)
    begins = within & ~torch.cat([within.new_zeros(1), within[:-1]])
    return torch.where(within, begins.long().cumsum(0) - 1, -1)
