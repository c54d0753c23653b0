"""CSV and TSV files as tables: a header, then one row a record. Empty cells are missing; a JSON list is a list."""

import csv
import json
from pathlib import Path
from typing import Any

from sightline.data.defects import RowError
from sightline.errors import DataError

MAX_CELL = 16 * 2**20
"""Characters of the longest cell that is read."""


def read_delimited(path: Path) -> list[dict[str, Any] | RowError]:
    """All records of a `.csv` or `.tsv` file; one with too many or too few cells is its error. Raises `DataError`."""
    csv.field_size_limit(MAX_CELL)
    rows: list[dict[str, Any] | RowError] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.reader(file, delimiter="\t" if path.suffix == ".tsv" else ",", strict=True)
            header = next(reader, [])
            for cells in reader:
                if cells:
                    rows.append(_row(header, cells, f"{path.name}, row {len(rows)}"))
    except (csv.Error, UnicodeDecodeError) as error:
        raise DataError(
            f"{path}: not a readable table after row {len(rows) - 1} ({error}). "
            "Expected UTF-8 with a header line, cells with commas or line breaks in double quotes."
        ) from error
    return rows


def _row(header: list[str], cells: list[str], where: str) -> dict[str, Any] | RowError:
    if len(cells) != len(header):
        return RowError("row unreadable", where, f"the record has {len(cells)} cells, the header {len(header)}")
    return {name: _value(cell) for name, cell in zip(header, cells, strict=True)}


def _value(cell: str) -> Any:
    if not cell:
        return None
    if cell.startswith("[") and cell.endswith("]"):
        try:
            return json.loads(cell)
        except ValueError:
            return cell  # a text in brackets
    return cell
