"""Whether a source's first rows have the format and the columns that the recipe names: said when it is opened."""

import itertools
from collections.abc import Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats import parse, recognise_source
from sightline.data.rows import Part
from sightline.data.sources.jsonl import JsonLines
from sightline.data.sources.reader import reader_of
from sightline.data.sources.tables import Renamed
from sightline.errors import DataError, did_you_mean

SAMPLE, MANY = 64, 20_000


def refuse_unfit(part: Part, columns: Mapping[str, str]) -> None:
    """Raises `DataError` for a column that none of the first rows has, or a format that fits none of them."""
    rows = list(itertools.islice(reader_of(part.table, {}), SAMPLE))
    if isinstance(part.table, Renamed):
        _refuse_columns(part.source, columns, part.table.table)
    if part.format == "auto" or not rows:
        return
    errors = [error for number, row in enumerate(rows) if (error := _misfit(part, row, number)) is not None]
    found = recognise_source(rows)
    if len(errors) == len(rows) and part.format not in found.split(", "):
        looks = "in no known format" if found == "auto" else f"in the format {found}"
        raise DataError(
            f"data.format: {part.format!r} fits none of the first {len(rows)} rows of {part.source}, which are "
            f"{looks}. Leave it out, or name theirs. The first: {errors[0]}"
        )


def _misfit(part: Part, row: Any, number: int) -> RowError | None:
    """What is wrong with a row in the format, as a row with responses and as a prompt alone."""
    first: RowError | None = None
    for prompt_only in (False, True):
        try:
            example = parse(
                row, format=part.format, source=part.source, row_number=number, media_dir=part.media_dir,
                allow_urls=part.allow_urls, ignore=part.ignore, prompt_only=prompt_only,
            )  # fmt: skip
        except RowError as error:
            first = first or error
        else:
            if example.prompt:
                return None
    return first or RowError("no user turn", f"{part.source}, row {number}", "nothing is asked")


def _refuse_columns(source: str, columns: Mapping[str, str], table: Any) -> None:
    # rows of JSON need not all have the same columns; those of tables do
    num_rows = MANY if isinstance(table, JsonLines | list) else 1
    wanting, present = dict(columns), dict[str, None]()
    for row in itertools.islice(reader_of(table, {}), num_rows):
        present |= dict.fromkeys(map(str, row)) if isinstance(row, Mapping) else {}
        wanting = {name: own for name, own in wanting.items() if own not in present}
        if not wanting:
            return
    if present:
        wanted, own = next(iter(wanting.items()))
        hint = did_you_mean(own, present, f"They have {', '.join(present)}.")
        raise DataError(
            f"data.columns: `{wanted}: {own}` names a column that the rows of {source} do not have. {hint} Name "
            "theirs, or leave it out (`--data.columns '{}'`)."
        )
