"""Who sees whom, against the rule spelled out token by token."""

import pytest
import torch
from torch import Tensor

from sightline.layout import prefix, visible
from sightline.types import Batch
from tests.layout.written import write_group

GROUPS = [
    write_group([1, 2, 3], [4, 5, 6], [7, 8, 9, 9]),
    write_group([1, 2, 3, 4, 5, 6], [4, 5, 6], block=[-1, 0, 0, -1, 1, 1]),
    write_group([1, 2], [3, 3], block=[0, 0]),
]


def spelled_out(batch: Batch, window: int | None, whole_blocks: bool = False) -> Tensor:
    rows, length = batch.input_ids.shape
    seen = torch.zeros(rows, length, length, dtype=torch.bool)
    for r in range(rows):
        for q in range(length):
            for k in range(length):
                same_group = batch.group[r, q] == batch.group[r, k] and batch.group[r, q] >= 0
                of_prompt_or_own = batch.segment[r, k] in (0, batch.segment[r, q])
                before = batch.rank[r, k] <= batch.rank[r, q]
                same_block = batch.block[r, q] == batch.block[r, k] and batch.block[r, q] >= 0
                near = window is None or batch.rank[r, q] - batch.rank[r, k] < window
                causal = of_prompt_or_own and before
                within = (causal and near) or same_block if whole_blocks else (causal or same_block) and near
                allowed = same_group and within
                seen[r, q, k] = bool(allowed) or q == k
    return seen


@pytest.mark.parametrize("row_length", [1, 14, 100])
@pytest.mark.parametrize("window", [None, 1, 3])
def test_visibility_is_what_the_rule_says(row_length: int, window: int | None) -> None:
    batch = prefix.lay_out(GROUPS, row_length)
    assert torch.equal(visible(batch, window), spelled_out(batch, window))


def test_a_window_that_leaves_blocks_whole_cuts_all_else() -> None:
    batch = prefix.lay_out(GROUPS, 100)
    assert torch.equal(visible(batch, 1, whole_blocks=True), spelled_out(batch, 1, whole_blocks=True))
    assert not torch.equal(visible(batch, 1, whole_blocks=True), visible(batch, 1))


def test_a_window_reaches_from_a_late_response_back_into_the_prompt() -> None:
    batch = prefix.lay_out([write_group([1, 2, 3], [4, 4, 4], [5, 5])])
    seen = visible(batch, window=2)[0]
    # the second response's first token (column 5) stands three columns from the prompt's last, but follows it
    assert seen[5].nonzero()[:, 0].tolist() == [2, 5]


def test_padding_sees_itself_and_is_seen_by_nobody() -> None:
    batch = prefix.lay_out([write_group([1, 2, 3, 4], [5]), write_group([1], [2, 3])])
    seen, padding = visible(batch), batch.group < 0
    assert padding.any()
    assert (seen.sum(-1) > 0).all()
    for row, column in padding.nonzero().tolist():
        assert seen[row, column].nonzero()[:, 0].tolist() == [column]
        assert seen[row, :, column].sum() == 1
