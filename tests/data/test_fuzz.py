"""Whatever bytes a file holds, reading it by index and front to back gives the same rows, or errors that name it."""

import csv
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tests.drawn import drawn

from sightline.config.data import DataConfig
from sightline.data.defects import RowError
from sightline.data.sources.load import load_rows, streams_of
from sightline.data.sources.reader import reader_of
from sightline.errors import DataError

ROWS = [{"question": f'Wörter, "and"\n{i}?', "chosen": f"yes {i}" * 20, "rejected": "no"} for i in range(12)]


def parquet() -> bytes:
    sink = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), sink, row_group_size=4)
    return sink.getvalue()


def delimited() -> bytes:
    sink = io.StringIO(newline="")
    writer = csv.DictWriter(sink, ROWS[0])
    writer.writeheader()
    writer.writerows(ROWS)
    return sink.getvalue().encode()


def tar() -> bytes:
    sink = io.BytesIO()
    with tarfile.open(fileobj=sink, mode="w") as archive:
        for i, row in enumerate(ROWS):
            content = json.dumps(row).encode()
            info = tarfile.TarInfo(f"{i}.json")
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return sink.getvalue()


def arrow() -> bytes:
    sink = io.BytesIO()
    table = pa.Table.from_pylist(ROWS)
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def lines() -> bytes:
    return "\n".join(json.dumps(row, ensure_ascii=False) for row in ROWS).encode()


WHOLE = {
    "parquet": parquet(),
    "csv": delimited(),
    "tar": tar(),
    "arrow": arrow(),
    "jsonl": lines(),
    "json": json.dumps(ROWS).encode(),
}
DAMAGE = st.lists(st.tuples(st.floats(0, 1), st.binary(min_size=1, max_size=12)), max_size=4)


def read(path: Path) -> tuple[list[Any], list[Any]]:
    """Rows by index and front to back; an unreadable one as the text of its error."""
    config = DataConfig(source=str(path))
    rows = load_rows(config)
    by_index = []
    for i in range(len(rows)):
        try:
            by_index.append(rows[i])
        except RowError as error:
            by_index.append(error)
    ((part,),) = (stream.parts for stream in streams_of(config))
    return by_index, list(reader_of(part.table, {}))


def said(rows: list[Any]) -> list[str]:
    return [str(row) if isinstance(row, RowError) else repr(row) for row in rows]


@pytest.mark.parametrize("suffix", WHOLE)
def test_whole_files_are_read(tmp_path, suffix):
    (tmp_path / f"rows.{suffix}").write_bytes(WHOLE[suffix])
    assert read(tmp_path / f"rows.{suffix}") == (ROWS, ROWS)


@pytest.mark.parametrize("suffix", [name for name in WHOLE if name != "arrow"])
@settings(max_examples=drawn(40), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(damage=DAMAGE, cut=st.floats(0, 1) | st.just(1.0))
@example(damage=[(0.4609375, b"\x80")], cut=1.0)  # the name of a column, no UTF-8
def test_damaged_files_are_rows_bad_rows_or_a_named_error(tmp_path, monkeypatch, suffix, damage, cut):
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    datasets.disable_progress_bars()
    content = bytearray(WHOLE[suffix])
    for place, noise in damage:
        start = int(place * len(content))
        content[start : start + len(noise)] = noise
    path = tmp_path / f"rows.{suffix}"
    path.write_bytes(content[: int(cut * len(content))])
    try:
        by_index, streamed = read(path)
    except DataError as error:
        assert "rows." in str(error)
        return
    assert said(by_index) == said(streamed)
