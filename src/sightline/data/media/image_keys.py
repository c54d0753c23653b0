"""What tells each row's images from others, for cutting and joining rows by image.

Reading every image's bytes takes a minute for tens of gigabytes, so the result is kept in the user's cache folder
for rows that come from unchanged files.
"""

from hashlib import sha1
from typing import NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

from sightline.data.defects import RowError
from sightline.data.rows import Entry, Rows
from sightline.data.sources.download import cache_folder
from sightline.files import whole_file

KEPT_FROM = 2000
"""Rows from which the result is kept on disk; fewer are read in a second or two."""


class ImageKeys(NamedTuple):
    """Of each row: the keys of its images, None for a row that cannot be parsed; and its opening.

    openings: equal for rows that read the same up to their last image; None without an image.
    """

    keys: list[list[str] | None]
    openings: list[str | None]


def image_keys(rows: Rows) -> ImageKeys:
    """Read them, or take what was kept."""
    fingerprint = rows.fingerprint if len(rows) >= KEPT_FROM else None
    path = cache_folder() / "images" / f"keys-{fingerprint}.parquet"
    if fingerprint is not None and path.is_file():
        table = pq.read_table(path)
        return ImageKeys(table["keys"].to_pylist(), table["opening"].to_pylist())
    found = [_of(entry) for entry in rows.entries()]
    result = ImageKeys([keys for keys, _ in found], [opening for _, opening in found])
    if fingerprint is not None:
        columns = {
            "keys": pa.array(result.keys, pa.list_(pa.string())),
            "opening": pa.array(result.openings, pa.string()),
        }
        with whole_file(path, shared=True) as aside:
            pq.write_table(pa.table(columns), aside)
    return result


def _of(entry: Entry) -> tuple[list[str] | None, str | None]:
    try:
        example = entry.example()
    except RowError:
        return None, None
    keys = [image.key for image in example.images]
    parts = [(m["role"], p.get("text")) for m in example.prompt for p in m["content"]]
    last = max((i for i, (_, text) in enumerate(parts) if text is None), default=None)
    if last is None:
        return keys, None
    return keys, sha1(repr((parts[: last + 1], keys)).encode(), usedforsecurity=False).hexdigest()
