"""First-fit decreasing."""

from hypothesis import given
from hypothesis import strategies as st

from sightline.layout import first_fit_decreasing


def test_the_largest_go_first_and_the_small_fill_the_gaps() -> None:
    assert first_fit_decreasing([3, 7, 5, 2], 10) == [[0, 1], [2, 3]]


def test_an_item_beyond_the_capacity_is_alone() -> None:
    assert first_fit_decreasing([4, 30, 5], 10) == [[0, 2], [1]]


@given(st.lists(st.integers(1, 50), max_size=30), st.integers(1, 60))
def test_every_item_is_in_one_bin_and_no_two_bins_could_be_one(sizes: list[int], capacity: int) -> None:
    bins = first_fit_decreasing(sizes, capacity)
    assert sorted(item for items in bins for item in items) == list(range(len(sizes)))
    filled = [sum(sizes[i] for i in items) for items in bins]
    assert all(total <= capacity or len(items) == 1 for total, items in zip(filled, bins, strict=True))
    assert len(bins) < 2 or sum(sorted(filled)[:2]) > capacity
