"""Visibility as FlexAttention's block mask (arXiv:2412.05496): `model.attn_implementation: flex_attention`.

Blocks of 128 × 128 scores in which nobody sees anybody are never computed. The kernel is transformers' (compiled,
soft-capping included); this is the mask it takes. Lengths are filled to a multiple of a block, so that few shapes are
compiled. Values were compared on a CPU, whose kernel has no backward; no GPU has run it, so `auto` does not choose it.
"""

from dataclasses import replace
from typing import no_type_check

import torch
from torch import Tensor, nn
from torch.nn.attention.flex_attention import BlockMask, create_block_mask
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.integrations.flex_attention import flex_attention_forward
from transformers.masking_utils import flex_attention_mask

from sightline.layout.grid import PADDING
from sightline.types import Batch

NAME = "flex_attention"
OWN_NAME = "prefix_blocks"
"""The same kernel for language models of which transformers says that they have none: it goes by the other name."""
NAMES = (NAME, OWN_NAME)
BLOCK = 128
"""Tokens to a side of a block."""


AttentionInterface.register(OWN_NAME, flex_attention_forward)
AttentionMaskInterface.register(OWN_NAME, flex_attention_mask)


def block_mask(batch: Batch, window: int | None = None, *, whole_blocks: bool = False) -> BlockMask:
    """The rule of `layout.visible`, as a function of (row, head, query, key)."""
    rows, length = batch.input_ids.shape
    reach = length if window is None else window
    return create_block_mask(
        lambda row, head, query, key: _sees(batch, reach, whole_blocks, row, query, key),
        rows,
        None,
        length,
        length,
        device=str(batch.input_ids.device),
        BLOCK_SIZE=BLOCK,
    )


@no_type_check  # a checker of types around it could not be traced into the kernel
def _sees(batch: Batch, reach: int, whole_blocks: bool, row: Tensor, query: Tensor, key: Tensor) -> Tensor:
    distance = batch.rank[row, query] - batch.rank[row, key]
    within = (batch.segment[row, key] == 0) | (batch.segment[row, key] == batch.segment[row, query])
    same_block = (batch.block[row, key] == batch.block[row, query]) & (batch.block[row, query] >= 0)
    in_reach = distance < reach
    allowed = ((distance >= 0) & within & in_reach) | (same_block if whole_blocks else same_block & in_reach)
    same_group = (batch.group[row, key] == batch.group[row, query]) & (batch.group[row, query] >= 0)
    return (allowed & same_group) | (query == key)


def filled_up(batch: Batch) -> Batch:
    """The batch with rows of a whole number of blocks, padding on the right."""
    length = batch.input_ids.shape[1]
    missing = -length % BLOCK
    if missing == 0 or batch.position_ids is None:
        return batch

    def fill(grid: Tensor, value: int) -> Tensor:
        return nn.functional.pad(grid, (0, missing), value=value)

    row = torch.div(batch.predictor, length, rounding_mode="floor")
    return replace(
        batch,
        input_ids=fill(batch.input_ids, 0),
        position_ids=fill(batch.position_ids, 0),
        group=fill(batch.group, PADDING),
        segment=fill(batch.segment, PADDING),
        rank=fill(batch.rank, 0),
        block=fill(batch.block, PADDING),
        predictor=batch.predictor + row * missing,
    )
