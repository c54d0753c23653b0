"""A quick look at an image: whether it decodes, its size, and marks by which it is known again after re-encoding.

JPEG files are decoded at a fraction of their size: the whole stream is read, so that damage shows, in half the time.
The hash is dHash (Krawetz 2013) on each colour channel, to find candidates: is a pixel of the 9 × 8 image brighter
than its neighbour? The thumbnail, 12 × 12, tells candidates apart: two drawings on one background may share the hash.
"""

from typing import NamedTuple

import numpy as np
from PIL import Image

from sightline.data.media.images import LazyImage

HASH_BITS = 192
SAME_HASH = 14
"""Bits by which the hashes of one image in two encodings may differ; those of two photographs differ in about 96."""
SAME_LEVEL = 24
"""Levels, of 255, by which their thumbnails may differ anywhere."""


class Glance(NamedTuple):
    """(width, height) in pixels, the hash as 24 bytes, the thumbnail as 432 bytes, pages or frames."""

    size: tuple[int, int]
    hash: bytes
    thumbnail: bytes
    num_frames: int = 1


def glance(image: LazyImage) -> Glance:
    """Decode small and hash. Raises `RowError` for an image that is missing or undecodable."""
    small = image.open_small()
    return Glance(small.size, *marks(small.image), small.num_frames)


def marks(image: Image.Image) -> tuple[bytes, bytes]:
    """Hash and thumbnail of an RGB image."""
    pixels = np.asarray(image.resize((9, 8), Image.Resampling.BOX), dtype=np.int16)
    difference_hash = np.packbits(pixels[:, 1:] > pixels[:, :-1]).tobytes()
    return difference_hash, image.resize((12, 12), Image.Resampling.BOX).tobytes()


def show_the_same(one: Glance, other: Glance) -> bool:
    """Whether two glances are of one image, re-encoded or rescaled."""
    if num_different_bits(one.hash, other.hash) > SAME_HASH:
        return False
    levels = [np.frombuffer(g.thumbnail, dtype=np.uint8).astype(np.int16) for g in (one, other)]
    return int(np.abs(levels[0] - levels[1]).max()) <= SAME_LEVEL


def num_different_bits(one: bytes, other: bytes) -> int:
    """The Hamming distance of two hashes."""
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).bit_count()
