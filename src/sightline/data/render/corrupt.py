"""mDPO's corrupted images (arXiv:2406.11839, §3.1): a small random cut of the image, which hides what was asked.

The cut keeps at most a fifth of the area and depends on seed and row alone. Left out: the paper's other corruptions
(noise, another image), which it found weaker.
"""

from dataclasses import dataclass, replace

import numpy as np
from PIL import Image
from torch.utils.data import Dataset

from sightline.data.defects import RowError
from sightline.data.render.dataset import GroupDataset
from sightline.data.render.render import Renderer
from sightline.types import AnyImage, BadRow, Example, Group

LARGEST_SHARE = 0.2
"""Of the image's area, at most this much is kept."""

SMALLEST_SHARE = 0.01
"""And at least this much, so that processors have something to resize."""


@dataclass(frozen=True)
class CorruptedImage:
    """A random cut of another image; the same for the same seed."""

    image: AnyImage
    seed: tuple[int, ...]

    def open(self) -> Image.Image:
        """Decode and cut."""
        whole = self.image.open()
        draw = np.random.default_rng(self.seed)
        side = float(np.sqrt(draw.uniform(SMALLEST_SHARE, LARGEST_SHARE)))
        width, height = (max(1, round(side * length)) for length in whole.size)
        left = int(draw.integers(0, whole.width - width + 1))
        top = int(draw.integers(0, whole.height - height + 1))
        return whole.crop((left, top, left + width, top + height))


class WithCorruptedImages(Dataset):
    """Pairs, each with a companion group: its chosen answer on its corrupted images."""

    def __init__(self, dataset: GroupDataset) -> None:
        assert not dataset.config.share_images, "refused in the recipe"
        self.dataset = dataset

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Group | BadRow:
        group = self.dataset[index]
        if isinstance(group, BadRow):
            return group
        try:
            return with_companion(group, self.dataset.example(index), self.dataset.renderer, self.dataset.config.seed)
        except RowError as error:
            return self.dataset.bad_row(index, error)


def with_companion(group: Group, example: Example, renderer: Renderer, seed: int) -> Group:
    """The pair's group with its chosen answer on corrupted images beside it. Raises `RowError`."""
    images = tuple(
        CorruptedImage(image, (seed, example.row_number, number)) for number, image in enumerate(example.images)
    )
    chosen = replace(example, images=images, responses=example.responses[:1])
    return replace(group, companions=(renderer.group(chosen),))
