"""TRL's unpaired preferences: `prompt, completion, label`, plain or conversational. One response with its label."""

from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.conversational import parse_conversational
from sightline.data.formats.labels import labelled
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media


def parse_kto(row: Mapping[str, Any], where: str, media: Media, *, tags: bool = False) -> Parsed:
    """The completion as the only response, desirable or not by `label`. Raises `RowError`."""
    if row.get("completion") is None:
        raise RowError("response missing", where, "the row has no completion")
    if "label" not in row:
        raise RowError("column has the wrong type", where, "the row has no label")
    parsed = parse_conversational({k: row[k] for k in row if k not in ("chosen", "rejected")}, where, media, tags=tags)
    return labelled(parsed, row, "label", where)
