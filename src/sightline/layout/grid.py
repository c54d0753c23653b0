"""What both layouts share: pieces of tokens become the rows of a grid."""

import torch
from jaxtyping import Int
from torch import Tensor

from sightline.types import Batch

PADDING = -1


def stack_rows(rows: list[Tensor], fill: int) -> Int[Tensor, "... rows length"]:
    """Rows of unequal length [..., length_i], filled on the right to one grid [..., rows, length]."""
    length = max(row.shape[-1] for row in rows)
    grid = rows[0].new_full((*rows[0].shape[:-1], len(rows), length), fill)
    for i, row in enumerate(rows):
        grid[..., i, : row.shape[-1]] = row
    return grid


def stack_left(rows: list[Tensor], fill: int) -> Int[Tensor, "... rows length"]:
    """As `stack_rows`, filled on the left: what follows a row is read or drawn for all rows alike."""
    return stack_rows([row.flip(-1) for row in rows], fill).flip(-1)


def order(batch: Batch) -> list[int]:
    """The group of every prompt in the grid, row by row and left to right.

    Image features must reach the model in this order: each group once in the prefix layout, once per response in
    the padded one.
    """
    starts = (batch.segment == 0) & (batch.rank == 0)
    return batch.group[starts].tolist()


def target_mask(weights: Tensor) -> Tensor:
    """[C] which tokens of a response are scored: those of weight other than 0."""
    return weights != 0


def response_ids(groups_responses: list[int]) -> Tensor:
    """[R] the group of each response, from the number of responses of each group."""
    return torch.repeat_interleave(
        torch.arange(len(groups_responses)), torch.tensor(groups_responses, dtype=torch.long)
    )
