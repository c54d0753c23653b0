"""The shared-prefix layout on groups small enough to lay out by hand."""

from dataclasses import replace

import pytest
import torch

from sightline.layout import order, padded, prefix
from sightline.types import Batch
from tests.layout.written import write_group

PAIR = write_group([10, 11, 12], [20, 21, 22], [30], start=5)


def predicting_tokens(batch: Batch) -> list[int]:
    return batch.input_ids.flatten()[batch.predictor].tolist()


def test_one_group_by_hand() -> None:
    batch = prefix.lay_out([PAIR])
    # 22 and 30 are only ever predicted: they are not fed
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21]]
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[5, 6, 7, 8, 9]]
    assert batch.segment.tolist() == [[0, 0, 0, 1, 1]]
    assert batch.rank.tolist() == [[0, 1, 2, 3, 4]]
    assert batch.target.tolist() == [20, 21, 22, 30]
    assert batch.response.tolist() == [0, 0, 0, 1]
    assert batch.response_group.tolist() == [0, 0]


def test_the_first_token_of_every_response_is_predicted_by_the_last_prompt_token() -> None:
    batch = prefix.lay_out([PAIR, write_group([40, 41], [50, 51], [60, 61])], row_length=100)
    assert predicting_tokens(batch) == [12, 20, 21, 12, 41, 50, 41, 60]
    assert batch.target.tolist() == [20, 21, 22, 30, 50, 51, 60, 61]


def test_positions_and_ranks_restart_for_every_response() -> None:
    batch = prefix.lay_out([write_group([1, 2], [3, 4, 5], [6, 7, 8], start=3)])
    assert batch.position_ids is not None
    assert batch.position_ids.tolist() == [[3, 4, 5, 6, 5, 6]]
    assert batch.rank.tolist() == [[0, 1, 2, 3, 2, 3]]
    assert batch.segment.tolist() == [[0, 0, 1, 1, 2, 2]]


def test_positions_on_three_axes_restart_on_all_of_them() -> None:
    group = write_group([1, 2, 3], [4, 5, 6], [7, 8])
    axes = torch.tensor([[0, 1, 1], [0, 1, 2], [0, 2, 1]])
    batch = prefix.lay_out([replace(group, positions=axes, next_position=9)])
    assert batch.position_ids is not None
    assert batch.position_ids[:, 0].tolist() == [[0, 1, 1, 9, 10, 9], [0, 1, 2, 9, 10, 9], [0, 2, 1, 9, 10, 9]]


def test_tokens_of_weight_zero_are_fed_but_not_scored() -> None:
    group = write_group([1, 2], [3, 4, 5, 6], weights=[[0.0, 0.0, 0.5, 0.0]])
    batch = prefix.lay_out([group])
    assert batch.target.tolist() == [5]
    assert batch.weight.tolist() == [0.5]
    assert predicting_tokens(batch) == [4]
    # what follows the last target predicts nothing
    assert batch.input_ids.tolist() == [[1, 2, 3, 4]]


def test_a_response_without_targets_keeps_its_number() -> None:
    group = write_group([1, 2], [3, 4], [5, 6], weights=[[0.0, 0.0], [1.0, 1.0]])
    batch = prefix.lay_out([group])
    assert batch.response.tolist() == [1, 1]
    assert batch.response_group.tolist() == [0, 0]
    assert batch.input_ids.tolist() == [[1, 2, 5]]


def test_groups_share_rows_only_as_far_as_they_fit() -> None:
    groups = [write_group([n] * 4, [n]) for n in (1, 2, 3)]
    assert prefix.lay_out(groups).input_ids.shape == (3, 4)
    two = prefix.lay_out(groups, row_length=8)
    assert two.input_ids.tolist() == [[1, 1, 1, 1, 2, 2, 2, 2], [3, 3, 3, 3, 0, 0, 0, 0]]
    assert two.group.tolist() == [[0] * 4 + [1] * 4, [2] * 4 + [-1] * 4]
    assert two.segment[1].tolist() == [0] * 4 + [-1] * 4
    assert order(two) == [0, 1, 2]


def test_order_follows_the_grid_and_not_the_list() -> None:
    groups = [write_group([1] * 6, [9]), write_group([2] * 7, [9]), write_group([3] * 3, [9])]
    batch = prefix.lay_out(groups, row_length=9)
    assert order(batch) == [0, 2, 1]
    assert order(padded.lay_out([PAIR, groups[0]])) == [0, 0, 1]


def test_both_layouts_score_the_same_targets_in_the_same_order() -> None:
    groups = [PAIR, write_group([1], [2, 3, 4], weights=[[0.0, 2.0, 0.0]]), write_group([7] * 9, [8], [9, 9], [6])]
    shared, plain = prefix.lay_out(groups), padded.lay_out(groups)
    for name in ("target", "weight", "response", "response_group"):
        assert torch.equal(getattr(shared, name), getattr(plain, name)), name
    assert predicting_tokens(shared) == predicting_tokens(plain)


def test_the_padded_layout_by_hand() -> None:
    batch = padded.lay_out([PAIR])
    assert batch.input_ids.tolist() == [[10, 11, 12, 20, 21, 22], [10, 11, 12, 30, 0, 0]]
    assert batch.position_ids is None
    assert batch.segment.tolist() == [[0, 0, 0, 1, 1, 1], [0, 0, 0, 2, -1, -1]]
    assert batch.predictor.tolist() == [2, 3, 4, 8]


def test_a_group_that_no_family_placed_is_refused() -> None:
    with pytest.raises(AssertionError, match="place the group"):
        prefix.lay_out([replace(PAIR, positions=None)])
