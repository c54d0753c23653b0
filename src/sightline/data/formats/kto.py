"""TRL's unpaired preferences: `prompt, completion, label`, plain or conversational. One response with its label."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.conversational import parse_conversational
from sightline.data.formats.parsed import Parsed
from sightline.data.media.find import Media


def parse_kto(row: Mapping[str, Any], where: str, media: Media) -> Parsed:
    """The completion as the only response, desirable or not by `label`. Raises `RowError`."""
    if not isinstance(row.get("label"), bool):
        raise RowError("column has the wrong type", where, f"label should be true or false, it is {row.get('label')!r}")
    if row.get("completion") is None:
        raise RowError("response missing", where, "the row has no completion")
    parsed = parse_conversational({k: row[k] for k in row if k not in ("chosen", "rejected")}, where, media)
    return labelled(parsed, row["label"])


def labelled(parsed: Parsed, label: bool) -> Parsed:
    """The same with its one response labelled. The column stays among the row's: rewards may read it."""
    (response,) = parsed.responses
    return replace(parsed, responses=(replace(response, label=label),))
