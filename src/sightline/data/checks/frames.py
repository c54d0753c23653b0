"""A line at a run's start on images of several pages or frames (TIFF, GIF, APNG, WebP): the first one is trained on."""

from collections.abc import Iterable
from itertools import islice

from sightline.data.defects import RowError
from sightline.data.media.images import LazyImage
from sightline.data.rows import Entry

FIRST = 100
"""Rows that are looked at; `sightline data check` reads all."""


def frames_note(entries: Iterable[Entry]) -> str | None:
    """How many of the first rows' images have several frames, and which is the first such row; None for none.

    Headers alone are read, and nothing is fetched. What is wrong with a row is said when it is read.
    """
    num_several, example = 0, ""
    for entry in islice(entries, FIRST):
        try:
            images = [image for image in entry.example().images if isinstance(image, LazyImage) and image.url is None]
            several = [count for image in images if (count := image.num_frames) > 1]
        except RowError:
            continue
        num_several += len(several)
        example = example or (f"{entry.where}: {several[0]}" if several else "")
    if not num_several:
        return None
    number = "An image" if num_several == 1 else f"{num_several} images"
    verb = "has" if num_several == 1 else "have"
    return (
        f"{number} of the first rows {verb} several pages or frames ({example}); the first one is trained on. "
        "`sightline data check` counts all."
    )
