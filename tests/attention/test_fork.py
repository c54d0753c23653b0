"""Where a prompt's state goes: indices worked out by hand, and groups that a row or a rank holds in any order."""

import torch

from sightline.attention.fork import fork_of
from sightline.layout import prefix
from tests.layout.written import write_group


def test_every_response_continues_its_own_prompt():
    # one row: prompt of 3, responses of 2 and 1; then prompt of 2, response of 1
    # the last token of a response predicts nothing and is left out of the grid
    groups = [write_group([1, 2, 3], [4, 5, 6], [7, 8]), write_group([1, 2], [3, 4])]
    batch = prefix.lay_out(groups, 100)
    assert batch.segment.flatten().tolist() == [0, 0, 0, 1, 1, 2, 0, 0, 1]
    fork = fork_of(batch, 2)
    nothing = 9
    assert fork.prompts.tolist() == [[0, 1, 2], [6, 7, nothing]]
    assert fork.responses.tolist() == [[3, 4], [5, nothing], [8, nothing]]
    assert fork.parent.tolist() == [0, 0, 1]
    assert fork.before[0].tolist() == [nothing, 0, 1, 2, 3, 2, nothing, 6, 7]
    assert fork.before[1].tolist() == [nothing, nothing, 0, 1, 2, 1, nothing, nothing, 6]


def test_groups_in_rows_of_their_own_and_padding_between_them():
    groups = [write_group([1, 2], [3, 4]), write_group([1, 2, 3, 4], [5, 6, 7])]
    batch = prefix.lay_out(groups, 1)
    rows, length = batch.segment.shape
    assert rows == 2
    fork = fork_of(batch, 1)
    nothing = rows * length
    padding = (batch.segment.flatten() == -1).nonzero()[:, 0]
    assert len(padding) and all(fork.before[0][place] == nothing for place in padding)
    used = torch.cat([fork.prompts.flatten(), fork.responses.flatten()])
    assert sorted(used[used < nothing].tolist()) == (batch.segment.flatten() >= 0).nonzero()[:, 0].tolist()
