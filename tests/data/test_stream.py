"""A stream shows every row once a pass, whatever reads it, and goes on at the exact next row from any step."""

import csv
import io
import json
import tarfile
from collections import Counter
from pathlib import Path
from typing import Any

import datasets
import numpy as np
import pytest
from PIL import Image
from tests.data.processors import llava

from sightline.config.data import DataConfig, SourceConfig
from sightline.data.render.render import Renderer
from sightline.data.sources.jsonl import JsonLines
from sightline.data.sources.load import load_rows, streams_in_python, streams_of
from sightline.data.sources.tar import Tar
from sightline.data.stream.passes import Passes
from sightline.data.stream.stream import GroupStream
from sightline.errors import DataError, RecipeError
from sightline.training.datasets import collate
from sightline.types import BadRow

NUM_ROWS = 23


def png(shade: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(np.full((30, 30, 3), shade, dtype=np.uint8)).save(buffer, "PNG")
    return buffer.getvalue()


def rows(count: int = NUM_ROWS, name: str = "row") -> list[dict]:
    return [{"image": png(i), "question": f"{name} {i}?", "chosen": f"yes {i}", "rejected": "no"} for i in range(count)]


@pytest.fixture(scope="module")
def renderer() -> Renderer:
    return Renderer(llava())


def write_parquet(path: Path, content: list[dict], row_group: int = 4) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.Table.from_pylist(content), path, row_group_size=row_group)


def write_tar(path: Path, content: list[dict]) -> None:
    with tarfile.open(path, "w") as archive:
        for i, row in enumerate(content):
            texts = {name: row[name] for name in ("question", "chosen", "rejected")}
            # a name beyond 100 characters has a header of its own before the member's
            for suffix, data in (("png", row["image"]), ("json", json.dumps(texts).encode())):
                info = tarfile.TarInfo(f"{'deep/' * (25 if i == 5 else 1)}{i:05d}.{suffix}")
                info.size = len(data)
                archive.addfile(info, io.BytesIO(data))


@pytest.fixture(scope="module")
def sources(tmp_path_factory) -> dict[str, Any]:
    """The same rows as every kind of source."""
    datasets.disable_progress_bars()
    folder, content = tmp_path_factory.mktemp("sources"), rows()
    for i, row in enumerate(content):
        (folder / f"{i}.png").write_bytes(row["image"])
    with_paths = [{**row, "image": f"{i}.png"} for i, row in enumerate(content)]
    (folder / "rows.jsonl").write_text("\n\n".join(map(json.dumps, with_paths)))
    (folder / "rows.json").write_text(json.dumps(with_paths))
    with (folder / "rows.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, with_paths[0])
        writer.writeheader()
        writer.writerows({**row, "question": row["question"] + '\nor not, "so"?'} for row in with_paths)
    write_parquet(folder / "rows.parquet", content)
    write_tar(folder / "rows.tar", content)
    (folder / "shards").mkdir()
    for i in range(3):
        write_tar(folder / "shards" / f"{i}.tar", content[i * 8 : (i + 1) * 8])
    datasets.Dataset.from_list(content).save_to_disk(str(folder / "saved"))
    (folder / "hub" / "data").mkdir(parents=True)
    for i in range(2):
        write_parquet(folder / "hub" / "data" / f"train-{i}.parquet", content[i * 12 : (i + 1) * 12])
    names = ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.tar", "shards", "saved")
    hub = datasets.load_dataset(str(folder / "hub"), split="train", streaming=True)
    return {name: str(folder / name) for name in names} | {"hub": hub}


def flat(steps) -> list[str]:
    """The ids of several steps."""
    return [one for step in steps for one in step]


KINDS = ("rows.jsonl", "rows.json", "rows.csv", "rows.parquet", "rows.tar", "shards", "saved", "hub")


def stream_of(source: object, renderer: Renderer, *, shuffle: bool = True, **config: Any) -> GroupStream:
    given = DataConfig(
        streaming=True, **{"shuffle_buffer": 5, "source": source if isinstance(source, str) else "", **config}
    )
    streams = streams_of(given) if given.is_given else streams_in_python(source, given)
    return GroupStream(streams, given, renderer, "pairs", seed=3, shuffle=shuffle)


def seen(stream: GroupStream, num_steps: int, num_groups: int = 4, **loader: object) -> list[list[str]]:
    """Ids of the rows of each step."""
    options = {"rank": 0, "num_ranks": 1, "collate_fn": collate, **loader}
    batches = iter(stream.loader(num_groups, **options))
    steps = [next(batches) for _ in range(num_steps)]
    return [[group.id for group in step["groups"]] + [row.id for row in step["bad_rows"]] for step in steps]


@pytest.mark.parametrize("name", KINDS)
def test_every_row_is_seen_once_a_pass_and_a_run_goes_on_from_any_step(sources, renderer, name):
    whole = stream_of(sources[name], renderer)
    steps = seen(whole, 12)
    ids = flat(steps)
    assert len(set(ids[:NUM_ROWS])) == NUM_ROWS
    assert Counter(ids[:NUM_ROWS]) == Counter(ids[NUM_ROWS : 2 * NUM_ROWS]) and ids[:NUM_ROWS] != ids[NUM_ROWS:46]
    for stopped in (0, 1, 3, 5, 6, 11):
        stream = stream_of(sources[name], renderer)
        seen(stream, stopped)
        state = json.loads(json.dumps(stream.state(stopped)))
        again = stream_of(sources[name], renderer)
        again.load(state, stopped)
        assert seen(again, 12 - stopped) == steps[stopped:]
        assert again.state(12) == whole.state(12) and again.num_passes(12) == whole.num_passes(12) == 2


@pytest.mark.parametrize("name", ("rows.parquet", "shards"))
def test_rows_of_a_stream_are_those_of_the_source(sources, renderer, name):
    rows = load_rows(DataConfig(source=sources[name]))
    (cut,) = seen(stream_of(sources[name], renderer, shuffle=False), 1, NUM_ROWS)
    assert cut == [rows.name(i) for i in range(NUM_ROWS)]
    item = next(stream_of(sources[name], renderer, shuffle=False).first(1))
    expected = renderer.group(rows.example(0))
    assert item.prompt_ids.equal(expected.prompt_ids)
    assert item.model_inputs["pixel_values"].equal(expected.model_inputs["pixel_values"])


@pytest.mark.parametrize(("num_ranks", "num_workers"), [(2, 0), (1, 2), (4, 0)])
def test_neither_ranks_nor_workers_change_what_a_step_sees(sources, renderer, num_ranks, num_workers):
    alone = seen(stream_of(sources["rows.tar"], renderer), 6, 8)
    shares = [
        seen(
            stream_of(sources["rows.tar"], renderer),
            6,
            8 // num_ranks,
            rank=rank,
            num_ranks=num_ranks,
            num_workers=num_workers,
        )
        for rank in range(num_ranks)
    ]
    assert [flat(step) for step in zip(*shares, strict=True)] == alone


def test_a_run_goes_on_with_another_number_of_ranks_and_rows_a_step(sources, renderer):
    ids = flat(seen(stream_of(sources["rows.parquet"], renderer), 6, 8))
    stopped = stream_of(sources["rows.parquet"], renderer)
    shares = [seen(stopped, 2, 4, rank=1, num_ranks=2)]
    stream = stream_of(sources["rows.parquet"], renderer)
    stream.load(stopped.state(2), 2)
    assert flat(seen(stream, 3, 6)) == ids[16:34] and flat(shares[0]) == ids[4:8] + ids[12:16]


def test_a_state_is_saved_for_the_step_that_was_made_not_for_rows_read_ahead(sources, renderer):
    steps = seen(stream_of(sources["rows.jsonl"], renderer), 5)
    stream = stream_of(sources["rows.jsonl"], renderer)
    batches = iter(stream.loader(4, rank=0, num_ranks=1, collate_fn=collate, num_workers=2, prefetch_factor=4))
    for _ in range(2):
        next(batches)
    again = stream_of(sources["rows.jsonl"], renderer)
    again.load(stream.state(2), 2)
    assert seen(again, 3) == steps[2:]


@pytest.mark.parametrize("change", [{"shuffle_buffer": 6}, {"limit": 20}])
def test_a_run_does_not_go_on_in_another_order(sources, renderer, change):
    stream = stream_of(sources["rows.jsonl"], renderer)
    seen(stream, 2)
    with pytest.raises(RecipeError, match=f"data.{next(iter(change))} was"):
        stream_of(sources["rows.jsonl"], renderer, **change).load(stream.state(2), 2)


def test_rows_are_shuffled_within_the_buffer_and_files_among_each_other(sources, renderer):
    (cut,) = seen(stream_of(sources["rows.jsonl"], renderer), 1, NUM_ROWS)
    places = [int(name.partition(":")[2]) for name in cut]
    assert places != sorted(places) and [place // 5 for place in places] == [i // 5 for i in range(NUM_ROWS)]
    orders = set()
    for shuffle, shuffle_buffer in ((True, 1), (False, 5)):
        (two,) = seen(stream_of(sources["shards"], renderer, shuffle=shuffle, shuffle_buffer=shuffle_buffer), 1, 46)
        names = [name.partition(":")[0] for name in two]
        orders |= {tuple(dict.fromkeys(names[:NUM_ROWS])), tuple(dict.fromkeys(names[NUM_ROWS:]))}
    assert len(orders) > 1 and ("0.tar", "1.tar", "2.tar") in orders
    limited = stream_of(sources["shards"], renderer, limit=10)
    (ten,) = seen(limited, 1, 10)
    assert sorted(ten) == [f"0.tar:{i}" for i in range(8)] + ["1.tar:0", "1.tar:1"]


def test_bad_rows_are_named_and_take_their_place(tmp_path, renderer):
    lines = [json.dumps({"question": f"{i}?", "chosen": "yes", "rejected": "no"}) for i in range(8)]
    lines[3], lines[5] = "no json", json.dumps({"question": "5?", "chosen": "", "rejected": "no"})
    (tmp_path / "rows.jsonl").write_text("\n".join(lines))
    stream = stream_of(str(tmp_path / "rows.jsonl"), renderer, on_bad_row="skip")
    batch = next(iter(stream.loader(8, rank=0, num_ranks=1, collate_fn=collate)))
    assert {(row.id, row.defect, row.skip) for row in batch["bad_rows"]} == {
        ("rows.jsonl:3", "row unreadable", True),
        ("rows.jsonl:5", "response empty", True),
    }
    assert len(batch["groups"]) == 6
    items = [item for item in stream_of(str(tmp_path / "rows.jsonl"), renderer).first(8) if isinstance(item, BadRow)]
    assert ["rows.jsonl, row 3" in items[0].message, items[0].skip] == [True, False]


def mixture(tmp_path: Path, **sizes: tuple[int, float, int | None]) -> DataConfig:
    for name, (count, *_) in sizes.items():
        lines = [json.dumps({"question": f"{i}?", "chosen": "yes", "rejected": "no"}) for i in range(count)]
        (tmp_path / f"{name}.jsonl").write_text("\n".join(lines))
    parts = [
        SourceConfig(source=str(tmp_path / f"{name}.jsonl"), weight=weight, limit=limit)
        for name, (_, weight, limit) in sizes.items()
    ]
    return DataConfig(mixture=parts, streaming=True, shuffle_buffer=4)


def test_streams_of_any_size_end_together_and_weights_and_limits_hold(tmp_path, renderer):
    config = mixture(tmp_path, large=(300, 1.0, None), small=(30, 2.0, None), half=(200, 0.5, None), few=(50, 1.0, 7))
    stream = GroupStream(streams_of(config), config, renderer, "pairs", seed=0)
    passes = Passes(stream.streams, seed=0)
    names = []
    while (entry := passes.next()) is not None:
        names.append(entry.name)
    seen_of = Counter(name.partition(".")[0] for name in names)
    assert (seen_of["large"], seen_of["small"], seen_of["few"]) == (300, 60, 7) and 75 < seen_of["half"] < 125
    assert Counter(Counter(n for n in names if n.startswith("small")).values()) == {2: 30}
    assert Counter(Counter(n for n in names if n.startswith("half")).values()) == {1: seen_of["half"]}
    for name in ("large", "small", "half"):
        places = [i / len(names) for i, one in enumerate(names) if one.startswith(name)]
        assert abs(np.mean(places) - 0.5) < 0.05 and places[0] < 0.02 and places[-1] > 0.95
    ids = flat(seen(stream, 20, 8))
    stream.load(stream.state(11), 11)
    assert flat(seen(stream, 9, 8)) == ids[88:]


def test_a_registry_and_a_meta_file_stream(tmp_path, renderer):
    lines = [json.dumps({"instruction": f"{i}?", "chosen": "yes", "rejected": "no"}) for i in range(6)]
    (tmp_path / "a.jsonl").write_text("\n".join(lines))
    entry = {
        "file_name": "a.jsonl",
        "ranking": True,
        "columns": {"prompt": "instruction", "chosen": "chosen", "rejected": "rejected"},
    }
    (tmp_path / "dataset_info.json").write_text(json.dumps({"a": entry, "b": {**entry, "num_samples": 2}}))
    config = DataConfig(registry=str(tmp_path / "dataset_info.json"), names=["a", "b"], streaming=True)
    ids = flat(seen(GroupStream(streams_of(config), config, renderer, "pairs", seed=0), 1, 8))
    assert sorted(ids) == [f"a:{i}" for i in range(6)] + ["b:0", "b:1"]
    (tmp_path / "meta.json").write_text(json.dumps({"m": {"root": ".", "annotation": "a.jsonl", "repeat_time": 2}}))
    config = DataConfig(source=str(tmp_path / "meta.json"), format="alpaca", streaming=True)
    ids = flat(seen(GroupStream(streams_of(config), config, renderer, "pairs", seed=0), 1, 12))
    assert Counter(ids) == {f"m:{i}": 2 for i in range(6)}


def test_nothing_is_indexed(sources, renderer):
    for name, table in (("rows.jsonl", JsonLines), ("rows.tar", Tar)):
        stream = stream_of(sources[name], renderer)
        seen(stream, 3)
        ((part,),) = (one.parts for one in stream.streams)
        assert isinstance(part.table, table) and not {"_lines", "_samples"} & set(vars(part.table))


def test_what_needs_all_rows_is_refused(sources, renderer):
    with pytest.raises(RecipeError, match="is a slice, which needs an index"):
        stream_of(sources["rows.parquet"], renderer, split="train[:10]")
    changes: list[dict[str, Any]] = [{"val_size": 0.1}, {"share_images": True}, {"cache_tokens": True}]
    for change in changes:
        with pytest.raises(RecipeError, match=next(iter(change))):
            stream_of(sources["rows.parquet"], renderer, **change)


def test_a_source_without_rows_is_named(tmp_path):
    (tmp_path / "empty.jsonl").write_text("\n\n")
    with pytest.raises(DataError, match=r"empty\.jsonl has no rows"):
        Passes(streams_of(DataConfig(source=str(tmp_path / "empty.jsonl"))), seed=None).next()


@pytest.mark.parametrize("name", ["rows.parquet", "rows.tar"])
def test_a_file_that_is_damaged_further_on_is_an_error_not_an_end(sources, tmp_path, renderer, name):
    content = bytearray(Path(sources[name]).read_bytes())
    middle = len(content) // 2
    if name == "rows.tar":
        middle -= middle % 512
        header = content.rindex(b"ustar", 0, middle) - 257
        content[header : header + 512] = b"x" * 512
    else:
        content[1000:middle] = b"x" * (middle - 1000)
    (tmp_path / name).write_bytes(content)
    with pytest.raises(DataError, match=name):
        seen(stream_of(str(tmp_path / name), renderer), 6)
