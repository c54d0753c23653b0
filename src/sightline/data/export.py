"""Rows of any format → clean parquet: images embedded, conversational columns, every row checked.

Columns: `images`, `prompt`, then `chosen` and `rejected`, or `completion`, with `label` for unpaired preferences; then
the source's other columns, text and numbers as they are and everything else as JSON. One of them that is called like
one of ours is written as `source_prompt`, `source_completion`, …; images of a second image column are left out.
"""

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import datasets
import pyarrow as pa
import pyarrow.parquet as pq

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.formats.names import IMAGE_COLUMNS
from sightline.data.media.images import LazyImage
from sightline.data.rows import Entry
from sightline.errors import DataError
from sightline.files import whole_file
from sightline.types import Example

GROUP = 64
"""Rows of a parquet row group: a few megabytes of images."""
GROUP_BYTES = 64 * 2**20
"""Bytes of images after which a row group ends, however few rows it has."""
MESSAGES = [
    {
        "role": datasets.Value("string"),
        "content": [{"type": datasets.Value("string"), "text": datasets.Value("string")}],
    }
]
PLAIN = {bool: "bool", int: "int64", float: "float64", str: "string"}


class Exported(NamedTuple):
    """How many rows were written, and the errors of those that were left out."""

    num_rows: int
    skipped: list[RowError]


class Other(NamedTuple):
    """A further column of the source: its name in the file, and its type there."""

    name: str
    kind: str


class Shape(NamedTuple):
    """Columns of the responses, and each further column by its name in the source."""

    responses: tuple[str, ...]
    others: dict[str, Other]


def export(entries: Iterable[Entry], again: Iterable[Entry], path: Path, *, skip: bool = False) -> Exported:
    """Write the rows to `path`; the file appears whole or not at all.

    entries, again: the same rows twice, read front to back: once to find the columns' types, once to write.
    skip: leave bad rows out instead of raising `RowError`. Raises `DataError` when no row is left or kinds are mixed.
    """
    skipped: list[RowError] = []
    shape = _shape(entry_examples(entries, skip=skip, skipped=skipped))
    features = _features(shape)
    schema = features.arrow_schema.with_metadata(
        {"huggingface": json.dumps({"info": {"features": features.to_dict()}})}
    )
    count = 0
    skipped.clear()
    with whole_file(path) as aside:
        with pq.ParquetWriter(aside, schema, compression="snappy") as writer:
            for group in _groups(_written(entry_examples(again, skip=skip, skipped=skipped), shape, skip, skipped)):
                writer.write_table(pa.Table.from_pylist(group, schema=schema))
                count += len(group)
        if not count:
            raise DataError(f"{path}: no row could be written; the first says: {skipped[0] if skipped else 'none'}")
    return Exported(count, skipped)


def entry_examples(entries: Iterable[Entry], *, skip: bool, skipped: list[RowError]) -> Iterator[Example]:
    """The examples of rows, checked but for their images; bad ones are raised, or skipped and listed."""
    for entry in entries:
        try:
            example = entry.example()
            check_example(example, len(example.responses))
        except RowError as error:
            if not skip:
                raise
            skipped.append(error)
            continue
        yield example


def _shape(examples: Iterable[Example]) -> Shape:
    kinds: dict[tuple[str, ...], str] = {}
    types: dict[str, set[str]] = {}
    for example in examples:
        kinds.setdefault(_response_columns(example), example.id)
        for name, value in example.row.items():
            kind = _kind(value)
            is_image = name in IMAGE_COLUMNS and kind == "json"
            if value is not None and not is_image and not _is_response(example, name, value):
                types.setdefault(name, set()).add(kind)
    if len(kinds) > 1:
        found = " and ".join(f"{', '.join(columns) or 'prompts alone'} ({row})" for columns, row in kinds.items())
        raise DataError(f"The rows are of several kinds: {found}. Convert them apart.")
    responses = next(iter(kinds), ())
    # read again, a column of one of the further names would be a response or the prompt
    taken = {"images", "prompt", "conversations", *(responses or ("chosen", "rejected", "completion", "messages"))}
    others = {}
    for name, found in types.items():
        written = name
        while written in taken or (written != name and written in types):
            written = f"source_{written}"
        taken.add(written)
        others[name] = Other(written, found.pop() if len(found) == 1 else "json")
    return Shape(responses, others)


def _kind(value: Any) -> str:
    """The column type that holds a value; JSON for what no plain type does, whole numbers beyond 64 bits among it."""
    kind = PLAIN.get(type(value), "json")
    return "json" if kind == "int64" and not -(2**63) <= value < 2**63 else kind


def _is_response(example: Example, name: str, value: Any) -> bool:
    """Whether a column says what the response's own column will say."""
    if len(example.responses) != 1:
        return False
    (response,) = example.responses
    return (name == "label" and value is response.label) or (name == "completion" and value == response.text)


def _response_columns(example: Example) -> tuple[str, ...]:
    match len(example.responses):
        case 0:
            return ()
        case 1:
            return ("completion",) if example.responses[0].label is None else ("completion", "label")
        case _:
            return ("chosen", "rejected")


def _features(shape: Shape) -> datasets.Features:
    columns: dict[str, Any] = {"images": datasets.List(datasets.Image()), "prompt": MESSAGES}
    for name in shape.responses:
        columns[name] = datasets.Value("bool") if name == "label" else MESSAGES
    for name, kind in shape.others.values():
        columns[name] = datasets.Value("string" if kind == "json" else kind)
    return datasets.Features(columns)


def _written(
    examples: Iterable[Example], shape: Shape, skip: bool, skipped: list[RowError]
) -> Iterator[dict[str, Any]]:
    for example in examples:
        try:
            yield _row(example, shape)
        except RowError as error:
            if not skip:
                raise
            skipped.append(error)


def _row(example: Example, shape: Shape) -> dict[str, Any]:
    row: dict[str, Any] = {
        "images": [_embedded(image) for image in example.images],
        "prompt": _messages(example.prompt),
    }
    for name, response in zip(shape.responses, example.responses, strict=False):
        row[name] = _messages(response.messages)
    if "label" in shape.responses:
        row["label"] = example.responses[0].label
    for name, (written, kind) in shape.others.items():
        value = example.row.get(name)
        row[written] = json.dumps(value, default=str) if kind == "json" and value is not None else value
    return row


def _embedded(image: Any) -> dict[str, Any]:
    """The image's own bytes, after a look whether they decode."""
    assert isinstance(image, LazyImage)
    image.open_small()
    return {"bytes": image.encoded(), "path": image.path.name if image.path else None}


def _messages(messages: tuple[dict[str, Any], ...]) -> list[dict[str, Any]]:
    return [
        {"role": m["role"], "content": [{"type": p["type"], "text": p.get("text")} for p in m["content"]]}
        for m in messages
    ]


def _groups(rows: Iterable[dict[str, Any]]) -> Iterator[list[dict[str, Any]]]:
    group: list[dict[str, Any]] = []
    num_bytes = 0
    for row in rows:
        group.append(row)
        num_bytes += sum(len(image["bytes"]) for image in row["images"])
        if len(group) == GROUP or num_bytes > GROUP_BYTES:
            yield group
            group, num_bytes = [], 0
    if group:
        yield group
