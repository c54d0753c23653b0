"""Sums and counts of a step, of numbers and tensors alike."""

import torch

from sightline.objectives.metrics import averaged
from sightline.training.step.metrics import Means, averages, read_numbers


def test_numbers_and_tensors_are_read_in_their_order() -> None:
    assert read_numbers([1.5, torch.tensor(2.0), torch.tensor(3), torch.tensor([4.0])]) == [1.5, 2.0, 3.0, 4.0]
    assert read_numbers([]) == []


def test_totals_are_sums_by_name_over_all_that_was_added() -> None:
    means = Means()
    means.add({"a": (torch.tensor(3.0), 2.0), "b": (1.0, torch.tensor(1))})
    means.add({"a": (torch.tensor(5.0), torch.tensor(2))})
    assert means.totals() == {"a": (8.0, 4.0), "b": (1.0, 1.0)}
    assert averages([means.totals(), {"a": (2.0, 1.0)}]) == {"a": 2.0, "b": 1.0}


def test_an_average_under_a_mask_is_of_what_it_says_whatever_the_rest_is() -> None:
    values = torch.tensor([1.0, float("nan"), 4.0])
    total, count = averaged(values, torch.tensor([True, False, True]))
    assert (float(total), int(count)) == (5.0, 2)
    total, count = averaged(torch.tensor([1.0, 2.0]))
    assert (float(total), int(count)) == (3.0, 2)
