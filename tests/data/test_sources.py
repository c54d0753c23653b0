"""Files, folders, saved data sets and Python objects become rows that know where they came from."""

import json
import pickle
from pathlib import Path

import datasets
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.drawn import drawn
from torch.utils.data import Subset

from sightline.config.data import DataConfig
from sightline.data.defects import RowError
from sightline.data.formats import PARSERS
from sightline.data.sources.hub import read_hub
from sightline.data.sources.jsonl import MAX_LINE, JsonLines
from sightline.data.sources.load import load_rows, rows_of
from sightline.data.sources.tables import Streamed, Undecoded
from sightline.errors import DataError

NUM_ROWS = 10
IMAGES = [Image.fromarray(np.full((8, 8, 3), 20 * i, np.uint8)) for i in range(NUM_ROWS)]


def row(i: int, image: object) -> dict:
    return {"image": image, "question": f"Question {i}?", "chosen": "yes", "rejected": "no"}


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """The same ten rows as parquet with features, bare parquet, JSON, JSON Lines, a saved data set and its splits."""
    datasets.disable_progress_bars()
    root = tmp_path_factory.mktemp("rows")
    rows = datasets.Dataset.from_list([row(i, image) for i, image in enumerate(IMAGES)])
    rows.to_parquet(str(root / "features.parquet"))
    rows.save_to_disk(str(root / "saved"))
    datasets.DatasetDict(train=rows, test=rows.select(range(3))).save_to_disk(str(root / "splits"))
    bare = [row(i, rows.cast_column("image", datasets.Image(decode=False))[i]["image"]) for i in range(NUM_ROWS)]
    pq.write_table(pa.Table.from_pylist(bare), root / "bare.parquet")
    (root / "images").mkdir()
    for i, image in enumerate(IMAGES):
        image.save(root / "images" / f"{i}.png")
    by_path = [row(i, f"images/{i}.png") for i in range(NUM_ROWS)]
    (root / "rows.json").write_text(json.dumps(by_path, indent=1))
    (root / "named.json").write_text(json.dumps({"version": 1, "data": by_path}))
    lines = "\n\n".join(json.dumps(r) for r in by_path)
    (root / "rows.jsonl").write_text(lines)
    (root / "lines.json").write_text(lines.replace("\n\n", "\r\n"))
    return root


SOURCES = ["features.parquet", "bare.parquet", "saved", "splits", "rows.json", "named.json", "rows.jsonl", "lines.json"]


@pytest.mark.parametrize("name", SOURCES)
def test_every_source_gives_the_same_rows_and_images(folder, name):
    rows = load_rows(DataConfig(source=str(folder / name)))
    assert len(rows) == NUM_ROWS
    for i in (0, 7):
        example = rows.example(i)
        assert example.prompt[0]["content"][-1]["text"] == f"Question {i}?"
        assert example.id == f"{Path(name).name}:{i}" == rows.name(i)
        np.testing.assert_array_equal(np.asarray(example.images[0].open()), np.asarray(IMAGES[i]))


@pytest.mark.parametrize("name", SOURCES)
def test_rows_pickle_for_workers(folder, name):
    rows = load_rows(DataConfig(source=str(folder / name)), "train[5:]")
    assert pickle.loads(pickle.dumps(rows)).example(1).id == rows.example(1).id


@pytest.mark.parametrize(
    ("split", "expected"),
    [
        ("train[:20%]", [0, 1]),
        ("train[8:]", [8, 9]),
        ("train[-2:]", [8, 9]),
        ("train[:1]+train[4:6]", [0, 4, 5]),
        ("train", list(range(10))),
    ],
)
def test_slices_are_taken_and_rows_keep_their_numbers(folder, split, expected):
    rows = load_rows(DataConfig(source=str(folder / "rows.jsonl"), split=split))
    assert [rows.example(i).row_number for i in range(len(rows))] == expected


@pytest.mark.parametrize("streaming", [False, True])
def test_a_hub_id_with_a_slice_is_read_by_the_library(folder, tmp_path, monkeypatch, streaming):
    """The hub's own loader, on a repository of the same layout that lies here."""
    data = tmp_path / "owner" / "name" / "data"
    data.mkdir(parents=True)
    (data / "train-00000-of-00001.parquet").write_bytes((folder / "features.parquet").read_bytes())
    monkeypatch.chdir(tmp_path)
    part = read_hub("owner/name", "train" if streaming else "train[:20%]", streaming=streaming)
    assert isinstance(part.table, Streamed if streaming else Undecoded)
    if not streaming:
        assert len(part.table) == 2 and part.table[1]["question"] == "Question 1?"
    with pytest.raises(DataError, match="gave no split 'nowhere'"):
        read_hub("owner/name", "nowhere")


def test_val_dev_and_valid_name_the_validation_split(tmp_path, monkeypatch):
    rows = [{"question": "q", "answer": "a"}] * 3
    for name in ("train", "validation"):
        (tmp_path / "files").mkdir(exist_ok=True)
        text = "".join(json.dumps(row) + "\n" for row in (rows if name == "train" else rows[:2]))
        (tmp_path / "files" / f"{name}.jsonl").write_text(text)
    saved = {"train": datasets.Dataset.from_list(rows), "valid": datasets.Dataset.from_list(rows[:2])}
    datasets.DatasetDict(saved).save_to_disk(str(tmp_path / "saved"))
    for source in ("files", "saved"):
        for name in ("val", "dev", "validation", "val[:2]"):
            assert len(load_rows(DataConfig(source=str(tmp_path / source), split=name))) == 2, (source, name)
    with pytest.raises(DataError, match="has no split 'test'"):
        load_rows(DataConfig(source=str(tmp_path / "files"), split="test"))
    asked = []

    def load_dataset(name, subset, *, data_dir, split, streaming):
        asked.append(split)
        return real("json", data_files={"validation": f"{tmp_path}/files/validation.jsonl"}, split=split)

    real = datasets.load_dataset
    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda *_, **__: ["train", "validation"])
    assert len(load_rows(DataConfig(source="owner/rows", split="val"))) == 2 and asked == ["val", "validation"]


def test_limit_and_splits_of_a_saved_dictionary(folder):
    assert len(load_rows(DataConfig(source=str(folder / "splits"), limit=4))) == 4
    assert len(load_rows(DataConfig(source=str(folder / "splits"), split="test"))) == 3
    with pytest.raises(DataError, match=r"no split 'dev'. It has train, test"):
        load_rows(DataConfig(source=str(folder / "splits"), split="dev"))


def test_evaluation_rows_come_from_their_own_source_and_split(folder):
    config = DataConfig(source=str(folder / "rows.json"), eval_source=str(folder / "splits"), limit=2)
    assert len(load_rows(config, split="eval")) == 3


def test_a_folder_is_read_by_split_and_files_keep_their_names(folder, tmp_path):
    for name in ("train-00000-of-00002", "train-00001-of-00002", "test-00000-of-00001"):
        (tmp_path / "data").mkdir(exist_ok=True)
        (tmp_path / "data" / f"{name}.parquet").write_bytes((folder / "features.parquet").read_bytes())
    rows = load_rows(DataConfig(source=str(tmp_path)))
    assert len(rows) == 2 * NUM_ROWS
    assert rows.name(NUM_ROWS + 1) == "train-00001-of-00002.parquet:1"
    with pytest.raises(DataError, match=r"no split 'validation'. It has test, train"):
        load_rows(DataConfig(source=str(tmp_path), split="validation"))


def test_a_folder_of_arrow_files_is_read(folder):
    assert len(load_rows(DataConfig(source=str(next((folder / "saved").glob("*.arrow")))))) == NUM_ROWS


def test_media_dir_says_where_images_are(folder, tmp_path):
    (tmp_path / "rows.jsonl").write_text(json.dumps(row(0, "3.png")))
    rows = load_rows(DataConfig(source=str(tmp_path / "rows.jsonl"), media_dir=str(folder / "images")))
    assert rows.example(0).images[0].open().getpixel((0, 0)) == (60, 60, 60)
    with pytest.raises(DataError, match="media_dir: there is no folder"):
        load_rows(DataConfig(source=str(tmp_path / "rows.jsonl"), media_dir=str(tmp_path / "nowhere")))


def test_a_dataset_object_is_read_without_decoding_and_with_the_users_transform(folder):
    saved = datasets.load_from_disk(str(folder / "saved"))
    stored = rows_of(saved)[3]
    assert set(stored["image"]) == {"bytes", "path"}
    changed = saved.with_transform(lambda batch: {**batch, "question": [q.upper() for q in batch["question"]]})
    assert rows_of(changed).example(3).prompt[0]["content"][-1]["text"] == "QUESTION 3?"


def test_subsets_and_lists_keep_their_row_numbers():
    rows = [row(i, image) for i, image in enumerate(IMAGES)]
    assert rows_of(Subset(rows, [4, 2])).example(0).row_number == 4
    assert rows_of(Subset(rows_of(rows), [4, 2])).example(1).row_number == 2
    assert rows_of(rows_of(rows)).name(5) == "rows:5"


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("nowhere.parquet", "no file or folder"),
        ("./nowhere", "no file or folder"),
        ("a/b/c/d", "no file or folder"),
        ("not an id", "neither a file or folder that exists nor a hub id"),
        ("owner/never-heard-of", "the hub gave no split 'train'"),
    ],
)
def test_a_source_that_is_not_there_is_named(name, expected):
    with pytest.raises(DataError, match=expected):
        load_rows(DataConfig(source=name))


def test_a_broken_file_is_named(tmp_path):
    for name, content in [
        ("x.parquet", b"PAR1 no"),
        ("x.json", b"{"),
        ("y.json", b'{"a": 1}'),
        ("x.arrow", b"no"),
        ("x.xls", b""),
    ]:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(DataError, match=name):
            load_rows(DataConfig(source=str(tmp_path / name)))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="holds no data file"):
        load_rows(DataConfig(source=str(tmp_path / "empty")))


def test_a_pickle_is_never_loaded(tmp_path):
    (tmp_path / "rows.pkl").write_bytes(b"cos\nsystem\n(S'touch " + str(tmp_path / "owned").encode() + b"'\ntR.")
    with pytest.raises(DataError, match="runs the code in it"):
        load_rows(DataConfig(source=str(tmp_path / "rows.pkl")))
    assert not (tmp_path / "owned").exists()


def test_a_split_that_is_none_is_refused(folder):
    for spec in ("train[5:", "train[:200%]"):
        with pytest.raises(DataError, match="is not a split"):
            load_rows(DataConfig(source=str(folder / "rows.jsonl"), split=spec))


def test_a_line_of_200_megabytes_is_refused_without_being_read(tmp_path):
    path = tmp_path / "long.jsonl"
    with path.open("wb") as file:
        file.write(json.dumps(row(0, None)).encode() + b"\n")
        file.seek(200 * 2**20, 1)  # a hole: the file takes no room
        file.write(b'"}\n' + json.dumps(row(2, None)).encode())
    lines = JsonLines(path)
    assert len(lines) == 3 and lines[2]["question"] == "Question 2?"
    with pytest.raises(RowError, match=f"long.jsonl, row 1.*more than {MAX_LINE:,}"):
        lines[1]


def test_nul_bytes_in_a_line_are_a_bad_row(tmp_path):
    (tmp_path / "nul.jsonl").write_bytes(b'{"question": "a\0b"}\n{"question": "ok", "chosen": "a", "rejected": "b"}\n')
    rows = load_rows(DataConfig(source=str(tmp_path / "nul.jsonl")))
    with pytest.raises(RowError, match=r"nul.jsonl, row 0: the line is not JSON"):
        rows.example(0)
    assert rows.example(1).responses[0].text == "a"


@settings(max_examples=drawn(60), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.binary(max_size=60), max_size=8))
def test_any_bytes_as_json_lines_are_rows_or_bad_rows(tmp_path, lines):
    path = tmp_path / "fuzz.jsonl"
    path.write_bytes(b"\n".join(lines))
    rows = load_rows(DataConfig(source=str(path)))
    for i in range(len(rows)):
        with pytest.raises(RowError):
            rows.example(i)


WORDS = st.sampled_from(["user", "assistant", "text", "image", "<image>", "data:image/png;base64,"])
KEYS = st.sampled_from(["role", "content", "type", "text", "image", "from", "value", "bytes", "path"])
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=8) | WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=4),
    max_leaves=12,
)
COLUMNS = [
    "prompt",
    "chosen",
    "rejected",
    "messages",
    "completion",
    "question",
    "answer",
    "images",
    "image",
    "label",
    "conversations",
    "instruction",
    "output",
    "history",
    "text",
    "kto_tag",
]


@settings(max_examples=drawn(300), deadline=None)
@given(st.dictionaries(st.sampled_from(COLUMNS), VALUES, max_size=5), st.sampled_from(["auto", *PARSERS]))
def test_any_row_is_an_example_or_a_bad_row(columns, format):
    try:
        example = rows_of([columns], format=format).example(0)
    except RowError as error:
        assert str(error).startswith("rows, row 0")
    else:
        assert all(isinstance(m["role"], str) and isinstance(m["content"], list) for m in example.prompt)
