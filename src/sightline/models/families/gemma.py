"""PaliGemma, Gemma 3 and 4: prompts, or the images in them, that see themselves in both directions."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Int
from torch import Tensor
from transformers import PreTrainedModel

from sightline.errors import ModelError
from sightline.models.families.family import Family
from sightline.types import Batch, Group

SLICE = "_maybe_slice_kv_shared_inputs"
"""What transformers calls the step before the layers that share keys and values."""


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


class Gemma4Family(Family):
    """Gemma 4: images are two-way blocks in the sliding layers of its larger sizes; the smaller are causal."""

    def __init__(self, model: PreTrainedModel) -> None:
        super().__init__(model)
        self.prompt_is_causal = self.text_config.use_bidirectional_attention != "vision"

    def place(self, group: Group) -> Group:
        placed = super().place(group)
        if self.prompt_is_causal:
            return placed
        kinds = self.inputs_of(group).get("mm_token_type_ids")
        return placed if kinds is None else replace(placed, block=_runs((kinds[0] == 1) | (kinds[0] == 2)))

    def masks(self, batch: Batch) -> Any:
        if self.prompt_is_causal:
            return super().masks(batch)
        return {
            "full_attention": self._mask(_without_blocks(batch), None),
            "sliding_attention": self._mask(batch, self.window),
        }

    @contextmanager
    def calling(self, batch: Batch, groups: list[Group]) -> Iterator[None]:
        """Layers that take keys and values of earlier ones get masks as they are.

        transformers slices all that enters them to the logits that are wanted, here all of them; a slice of a mask is
        another tensor, without the plan that it carries.
        """
        decoder: Any = self.model.get_decoder()
        if not hasattr(decoder, SLICE):
            yield
            return
        setattr(
            decoder, SLICE, lambda hidden, per_layer, positions, masks, *_, **__: (hidden, per_layer, positions, masks)
        )
        try:
            yield
        finally:
            delattr(decoder, SLICE)


class Gemma4UnifiedFamily(Gemma4Family):
    """Gemma 4 without a tower (12B): two-way blocks in all layers, and no window cuts them."""

    def masks(self, batch: Batch) -> Any:
        if self.prompt_is_causal:
            return super().masks(batch)
        return {
            "full_attention": self._mask(batch, None),
            "sliding_attention": self._mask(batch, self.window, whole_blocks=True),
        }


def _without_blocks(batch: Batch) -> Batch:
    host = replace(batch.on_host, block=torch.full_like(batch.on_host.block, -1))
    return replace(batch, block=torch.full_like(batch.block, -1), host=host)


def _blocks(group: Group, *, inside: int, every_run_its_own: bool) -> Int[Tensor, " prompt"]:
    """The number of each token's two-way block, from the processor's token types; −1 outside of blocks."""
    if "token_type_ids" not in group.model_inputs:
        return torch.full_like(group.prompt_ids, -1)
    within = group.model_inputs["token_type_ids"][0] == inside
    return _runs(within) if every_run_its_own else torch.where(within, 0, -1)


def _runs(within: Bool[Tensor, " prompt"]) -> Int[Tensor, " prompt"]:
    """Adjacent tokens numbered together, from 0; −1 for those that are not within."""
    begins = within & ~torch.cat([within.new_zeros(1), within[:-1]])
    return torch.where(within, begins.long().cumsum(0) - 1, -1)
