"""The columns of a row (or the keys of a message) that hold its images, in order.

`images`, `image`, `image_path`, `image_paths` and `img`; numbered ones, `image_1` … `image_7`, in the order of their
numbers; else columns called by a file's ending (`jpg`, `left.png`: webdataset's), or imagefolder's `file_name`. Two
of them may be filled where they agree: one may hold an image and the other its name.
"""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.names import IMAGE_COLUMNS
from sightline.data.media.find import Media, images
from sightline.data.media.images import LazyImage
from sightline.data.media.kinds import kind_of_name

NUMBERED = re.compile(r"(?:images?|img|image|photo)[ _-]?(\d{1,3})")
BY_ENDING = re.compile(r"(?:.*\.)?(?:jpe?g|png|webp|gif|bmp|tiff?|avif)")
FOLDERS_COLUMN = "file_name"
"""What imagefolder's metadata calls an image's path."""


@dataclass(frozen=True)
class ColumnImages:
    """Images, and the number by which a tag such as `<image 2>` calls each.

    read: the columns that they are from. columns: those, and others that hold the same ones or their names.
    """

    images: tuple[LazyImage, ...] = ()
    numbers: tuple[int, ...] = ()
    read: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()


def images_of(row: Mapping[str, Any], where: str, media: Media) -> ColumnImages:
    """The images of a row's columns. Raises `RowError` where columns disagree or a place in a list is empty."""
    held = [name for name in IMAGE_COLUMNS if is_filled(row.get(name))]
    numbered = _numbered(row)
    if not held and not numbered:
        return _by_ending(row, where, media)
    candidates: dict[tuple[str, ...], tuple[LazyImage, ...]] = {}
    for name in held:
        read = _tolerant if candidates else images
        candidates[(name,)] = read(row[name], where, media, name)
    numbers: tuple[int, ...] = ()
    if numbered:
        by_number = [(number, one) for number, name in numbered for one in images(row[name], where, media, name)]
        numbers = tuple(number for number, _ in by_number)
        candidates[tuple(name for _, name in numbered)] = tuple(one for _, one in by_number)
    read = _agreed(candidates, where)
    found = candidates[read]
    if held and read[0] in held:
        numbers = tuple(range(1, len(found) + 1))
    return ColumnImages(found, numbers, read, tuple(name for names in candidates for name in names))


def _numbered(row: Mapping[str, Any]) -> list[tuple[int, str]]:
    """Numbers and names of the filled columns `image_1`, `image_2`, …, in order."""
    names = [name for name, value in row.items() if isinstance(name, str) and is_filled(value)]
    matches = [(NUMBERED.fullmatch(name), name) for name in names]
    return sorted((int(match.group(1)), name) for match, name in matches if match)


def _by_ending(row: Mapping[str, Any], where: str, media: Media) -> ColumnImages:
    """The images of columns that are called like files; else the one that `file_name` names."""
    held = tuple(n for n, v in row.items() if isinstance(n, str) and BY_ENDING.fullmatch(n) and is_filled(v))
    named = row.get(FOLDERS_COLUMN)
    if not held and isinstance(named, str) and kind_of_name(named) == "image":
        held = (FOLDERS_COLUMN,)
    found = tuple(one for name in held for one in images(row[name], where, media, name))
    return ColumnImages(found, tuple(range(1, len(found) + 1)), held, held)


def is_filled(value: Any) -> bool:
    """Whether a column holds anything."""
    return value is not None and not (isinstance(value, list | tuple) and not value)


def _tolerant(value: Any, where: str, media: Media, column: str) -> tuple[LazyImage, ...]:
    """A second column's images; none where it only says where the first one's came from (an address, a far path)."""
    try:
        return images(value, where, media, column)
    except RowError as error:
        if error.defect in ("image from the network", "image outside media folder"):
            return ()
        raise


def _agreed(candidates: dict[tuple[str, ...], tuple[LazyImage, ...]], where: str) -> tuple[str, ...]:
    """The columns with the longest list, of equal ones with bytes. Raises `RowError` for an image that it lacks."""
    best = max(candidates, key=lambda names: (len(candidates[names]), sum(p.path is None for p in candidates[names])))
    for names, found in candidates.items():
        if not all(any(_are_one(one, other) for other in candidates[best]) for one in found):
            what = f"the columns {', '.join(names)} and {', '.join(best)} hold different images"
            raise RowError("columns disagree", where, what)
    return best


def _are_one(one: LazyImage, other: LazyImage) -> bool:
    """Whether two columns may mean one image: equal, or bytes and the name of a file that is not here."""
    if one.key == other.key or b"" in (one.data, other.data):
        return True
    paths = [p.path for p in (one, other) if p.path is not None]
    contents = [path.read_bytes() if os.path.isfile(path) else None for path in paths]
    if len(paths) == 1:
        data = one.data if one.path is None else other.data
        return contents[0] is None or data is None or contents[0] == data
    if len(paths) == 2:
        if None in contents:
            return paths[0].name == paths[1].name
        return contents[0] == contents[1]
    return False
