"""Columns of responses: joined, taken apart, and as long as what they describe."""

import pytest
import torch

from sightline.types import Columns, Group


def group(columns: Columns) -> Group:
    """Two responses, of one and two tokens."""
    responses = (torch.tensor([7]), torch.tensor([8, 9]))
    weights = tuple(torch.ones(len(response)) for response in responses)
    return Group(id="rows:0", prompt_ids=torch.arange(3), responses=responses, weights=weights, columns=columns)


def test_columns_are_joined_where_all_parts_know_them():
    one = Columns(label=torch.tensor([True]), advantage=torch.tensor([0.5]), old_logp=torch.tensor([-1.0, -2.0]))
    other = Columns(label=torch.tensor([False, True]), old_logp=torch.tensor([-3.0]))
    joined = Columns.join([one, other])
    assert {name: column.tolist() for name, column in joined.known.items()} == {
        "label": [True, False, True],
        "old_logp": [-1.0, -2.0, -3.0],
    }
    assert Columns.join([]).known == {}


def test_a_group_keeps_the_columns_of_the_responses_that_it_keeps():
    whole = group(Columns(advantage=torch.tensor([0.5, -0.5]), old_logp=torch.tensor([-1.0, -2.0, -3.0])))
    kept = whole.keep([1]).columns.known
    assert {name: column.tolist() for name, column in kept.items()} == {"advantage": [-0.5], "old_logp": [-2.0, -3.0]}
    swapped = whole.keep([1, 0]).columns
    assert swapped.old_logp is not None and swapped.old_logp.tolist() == [-2.0, -3.0, -1.0]


@pytest.mark.parametrize(
    "columns",
    [
        Columns(role=torch.tensor([0])),
        Columns(label=torch.tensor([True, True, False])),
        Columns(importance_weight=torch.tensor([1.0, 1.0])),
    ],
)
def test_columns_of_another_number_of_responses_or_tokens_are_no_groups(columns):
    with pytest.raises(AssertionError):
        group(columns)


def test_the_row_of_a_group_is_the_only_one():
    one = Group(id="a", prompt_ids=torch.arange(1), responses=(), weights=(), rows=({"role": "x"},))
    assert one.row == {"role": "x"}
    shared = Group(id="a+b", prompt_ids=torch.arange(1), responses=(), weights=(), rows=({}, {}))
    with pytest.raises(ValueError, match="too many"):
        _ = shared.row
