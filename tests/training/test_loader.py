"""Rows of a step over processes: each in one of them, the same for any number, and even by tokens."""

import pytest
from benchmarks.balance import idle_share, skewed_lengths
from hypothesis import given
from hypothesis import strategies as st

from sightline.training.datasets import StepBatches, shares


@given(
    num_rows=st.integers(1, 60),
    rows_each=st.integers(1, 5),
    world=st.integers(1, 7),
    epoch=st.integers(0, 3),
    balanced=st.booleans(),
)
def test_every_row_is_read_once_in_the_same_step_by_any_number_of_processes(
    num_rows, rows_each, world, epoch, balanced
):
    costs = [1.0 + row % 7 for row in range(num_rows)] if balanced else None

    def steps(rank: int, world: int) -> list[list[int]]:
        batches = StepBatches(num_rows, rows_each * 4, seed=3, rank=rank, world=world, costs=costs)
        batches.start_pass(epoch)
        assert len(batches) == len(list(batches))
        return list(batches)

    alone = steps(0, 1)
    together = [steps(rank, world) for rank in range(world)]
    assert sorted(row for step in alone for row in step) == list(range(num_rows))
    for number, step in enumerate(alone):
        assert sorted(row for rank in together for row in rank[number]) == sorted(step)


def test_the_longest_rows_are_dealt_out_first():
    assert shares(4, 2, [10, 1, 1, 8]) == [[0], [1, 2, 3]]
    assert shares(3, 2, None) == [[0, 1], [2]]
    assert shares(1, 3, None) == [[0], [], []]


def test_passes_differ_and_an_order_of_ones_own_is_kept():
    batches = StepBatches(20, 4, seed=0)
    first = list(batches)
    batches.start_pass(1)
    assert list(batches) != first
    assert list(StepBatches(6, 4, seed=None)) == [[0, 1, 2, 3], [4, 5]]


@pytest.mark.parametrize("world", [2, 8, 64])
def test_processes_are_idle_for_at_most_a_twentieth_of_the_time(world):
    lengths = skewed_lengths(4096)
    in_order, balanced = (idle_share(lengths, world=world, rows_each=16, balanced=b) for b in (False, True))
    assert balanced <= 0.05 and balanced < in_order / 3
