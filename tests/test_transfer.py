"""Many tensors in one copy come out as they went in."""

import torch

from sightline.transfer import _view, move_together

CPU = torch.device("cpu")


def test_on_a_cpu_nothing_is_copied() -> None:
    tensors = [torch.arange(3), torch.rand(2, 2)]
    assert all(found is one for found, one in zip(move_together(tensors, CPU), tensors, strict=True))


def test_views_of_one_buffer_hold_every_dtype_and_shape() -> None:
    given = [torch.tensor(True), torch.arange(5).int(), torch.rand(2, 3, dtype=torch.float64), torch.zeros(0, 4)]
    buffer = torch.zeros(256, dtype=torch.uint8)
    for number, one in enumerate(given):
        _view(buffer, 64 * number, one).copy_(one)
    for number, one in enumerate(given):
        assert torch.equal(_view(buffer, 64 * number, one), one)
