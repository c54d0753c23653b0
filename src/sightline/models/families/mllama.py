"""Mllama (Llama 3.2 Vision): the language model reads images through cross-attention layers, not as tokens.

A grid has for each row one *shelf* of images: those of the row's groups, in order, and after them one empty image
of zeros. A token sees the tiles of its own group that the processor gave it. Where it was given none (a token before
the image), transformers lets it see every tile of its own prompt, without the layer's MLP; we do the same, inside its
group. A group without images sees the empty one, whose values are zero, so that the layers add nothing, as when they
are skipped. transformers makes the mask from 0/1 inside the model; a hook puts ours in its place.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sightline.models.families.family import Family, Pieces
from sightline.types import Batch, Group


class MllamaFamily(Family):
    """Llama 3.2 Vision. `cross_attention_mask` is [1, P, images, tiles]."""

    extra_embeddings: ClassVar[int] = 8
    along_tokens: ClassVar[dict[str, int]] = {}
    continues: ClassVar[tuple[str, ...]] = ("cross_attention_mask",)
    SHELVED = ("pixel_values", "aspect_ratio_ids", "aspect_ratio_mask")
    """Inputs [1, images, …]."""

    @property
    def tower_inputs(self) -> tuple[str, ...]:
        return self.SHELVED

    @property
    def can_share_features(self) -> bool:
        return True

    def concatenate(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        """As `Family.concatenate`; the mask along tokens is filled on the left, as prompts are for generation."""
        masks = [one["cross_attention_mask"] for one in inputs if "cross_attention_mask" in one]
        longest = max((mask.shape[1] for mask in masks), default=0)

        def filled(one: dict[str, Any]) -> dict[str, Any]:
            kept = {name: one[name] for name in self.SHELVED if name in one}
            if "cross_attention_mask" in one:
                mask = one["cross_attention_mask"]
                missing = mask.new_zeros(1, longest - mask.shape[1], *mask.shape[2:])
                kept["cross_attention_mask"] = torch.cat([missing, mask], 1)
            return kept

        return super().concatenate([filled(one) for one in inputs])

    def encode(self, groups: list[Group]) -> list[Pieces]:
        device = self.model.device
        joined = self.concatenate([group.model_inputs for group in groups])
        inputs = {name: joined[name].to(device) for name in self.SHELVED}
        seen = self.model.model.vision_model(**inputs).last_hidden_state
        states = self.model.model.multi_modal_projector(seen)
        return [{"states": row[: _num_images(g)]} for row, g in zip(states, groups, strict=True)]

    def join(self, pieces: list[Pieces | None], batch: Batch | None) -> dict[str, Any]:
        """`cross_attention_states` [rows · images · tiles, patches, hidden] of every row's shelf.

        Without a grid [rows, images, tiles, patches, hidden], smaller numbers of images filled up with zeros.
        """
        present = [piece["states"] for piece in pieces if piece is not None]
        if not present:
            return {}
        if batch is None:
            return {"cross_attention_states": pad_sequence(present, batch_first=True)}
        empty = present[0].new_zeros(0, *present[0].shape[1:])
        shelves = _shelves([empty if piece is None else piece["states"] for piece in pieces], batch)
        return {"cross_attention_states": shelves.flatten(0, 2)}

    def pixels(self, groups: list[Group], batch: Batch) -> dict[str, Any]:
        present = [group for group in groups if self.has_images(group)]
        if not present:
            return {}
        first = present[0].model_inputs
        inputs = {}
        for name in self.SHELVED:
            empty = first[name].new_zeros(0, *first[name].shape[2:])
            parts = [g.model_inputs[name][0] if self.has_images(g) else empty for g in groups]
            inputs[name] = _shelves(parts, batch).to(self.model.device)
        return inputs

    @contextmanager
    def calling(self, batch: Batch, groups: list[Group]) -> Iterator[None]:
        """Hand the cross-attention layers our mask, and take from the empty image what tower and projector add."""
        if not any(self.has_images(group) for group in groups):
            yield
            return
        tiles, real = self._tiles(batch, groups)
        given = (tiles > 0).any((-1, -2))
        # tokens that were given no tile see all of their own group's; who has none sees the empty image
        own = _own_images(batch, groups)[..., None].expand_as(tiles)
        seen = torch.where(given[..., None, None], tiles > 0, own)
        patches = self.model.model.vision_model.num_patches
        mask = self.mask_of(seen.flatten(-2).repeat_interleave(patches, -1)[:, None])
        through_mlp = given[:, None, :, None].to(next(self.model.get_decoder().parameters()).dtype)
        real = real[..., None].expand(-1, -1, tiles.shape[-1]).flatten()

        def put(_: nn.Module, arguments: tuple, options: dict[str, Any]) -> tuple[tuple, dict[str, Any]]:
            states = options["cross_attention_states"]
            return arguments, {
                **options,
                "cross_attention_states": states * real[:, None, None].to(states.dtype),
                "cross_attention_mask": mask,
                "full_text_row_masked_out_mask": through_mlp,
            }

        hook = self.model.get_decoder().register_forward_pre_hook(put, with_kwargs=True)
        try:
            yield
        finally:
            hook.remove()

    def _tiles(self, batch: Batch, groups: list[Group]) -> tuple[Tensor, Tensor]:
        """[rows, length, images, tiles] which tiles the processor gave each token, continued after each response,
        and [rows, images] which places of a shelf hold an image."""
        counts = [_num_images(group) for group in groups]
        places, width = _places(batch, counts)
        num_tiles = self.config.vision_config.max_num_tiles
        device = batch.input_ids.device
        tiles = torch.zeros(*batch.input_ids.shape, width, num_tiles, dtype=torch.long, device=device)
        real = torch.zeros(len(tiles), width, dtype=torch.bool, device=device)
        numbers = _prompt_numbers(batch)
        for p, (group, (row, first)) in enumerate(zip(groups, places, strict=True)):
            if not counts[p]:
                continue
            given = group.model_inputs["cross_attention_mask"][0].to(device)
            columns = (numbers[row] == p).nonzero()[:, 0]
            # a response sees what the last prompt token sees
            tiles[row, columns, first : first + counts[p]] = given[batch.rank[row, columns].clamp(max=len(given) - 1)]
            real[row, first : first + counts[p]] = True
        return tiles, real


def _num_images(group: Group) -> int:
    return group.model_inputs["pixel_values"].shape[1] if "pixel_values" in group.model_inputs else 0


def _prompt_numbers(batch: Batch) -> Tensor:
    """[rows, length] which prompt of the grid, in the order of `layout.order`, each token belongs to."""
    starts = (batch.segment == 0) & (batch.rank == 0)
    return starts.flatten().cumsum(0).view_as(starts) - 1


def _places(batch: Batch, counts: list[int]) -> tuple[list[tuple[int, int]], int]:
    """(row, first image on its shelf) of every prompt, and the length of a shelf, the empty image included."""
    host = batch.on_host
    starts = (host.segment == 0) & (host.rank == 0)
    used = [0] * len(batch.input_ids)
    places = []
    for row, count in zip(starts.nonzero()[:, 0].tolist(), counts, strict=True):
        places.append((row, used[row]))
        used[row] += count
    return places, max(used) + 1


def _shelves(parts: list[Tensor], batch: Batch) -> Tensor:
    """[rows, images, …] from each prompt's [images, …]; zeros where there is none."""
    places, width = _places(batch, [len(part) for part in parts])
    shelves = parts[0].new_zeros(len(batch.input_ids), width, *parts[0].shape[1:])
    for part, (row, first) in zip(parts, places, strict=True):
        shelves[row, first : first + len(part)] = part
    return shelves


def _own_images(batch: Batch, groups: list[Group]) -> Tensor:
    """[rows, length, images] the images of each token's own group; the empty one for a token without."""
    counts = [_num_images(group) for group in groups]
    places, width = _places(batch, counts)
    numbers = _prompt_numbers(batch)
    own = torch.zeros(*batch.input_ids.shape, width, dtype=torch.bool, device=batch.input_ids.device)
    for p, (row, first) in enumerate(places):
        columns = (numbers[row] == p).nonzero()[:, 0]
        own[row, columns, first : first + counts[p]] = True
    own[..., -1] = ~own.any(-1)
    return own
