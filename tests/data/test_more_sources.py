"""CSV, webdataset tar, LLaMA-Factory's registry, InternVL's meta file, mixtures, streaming."""

import io
import json
import pickle
import tarfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.drawn import drawn

from sightline.config.data import DataConfig, SourceConfig
from sightline.data.defects import RowError
from sightline.data.sources.load import load_rows, rows_of
from sightline.errors import DataError, RecipeError

IMAGE = Image.fromarray(np.full((8, 8, 3), 77, np.uint8))


def png() -> bytes:
    buffer = io.BytesIO()
    IMAGE.save(buffer, "PNG")
    return buffer.getvalue()


def pair(example) -> tuple[str, str, str]:
    """Question, chosen, rejected."""
    text = "".join(p["text"] for p in example.prompt[-1]["content"] if p["type"] == "text")
    return text, *(r.text for r in example.responses)


@pytest.fixture
def folder(tmp_path) -> Path:
    (tmp_path / "a.png").write_bytes(png())
    return tmp_path


def test_csv_with_paths_line_breaks_and_lists(folder):
    lines = [
        "image,question,chosen,rejected",
        'a.png,"What, then?","yes\nindeed",no',
        '"[""a.png"", ""a.png""]",Two?,yes,no',
        ",None?,yes,no",
    ]
    (folder / "rows.csv").write_text("\n".join(lines))
    rows = load_rows(DataConfig(source=str(folder / "rows.csv")))
    assert pair(rows.example(0)) == ("What, then?", "yes\nindeed", "no")
    assert [len(rows.example(i).images) for i in range(3)] == [1, 2, 0]
    assert rows.example(0).images[0].open().getpixel((0, 0)) == (77, 77, 77)
    (folder / "rows.tsv").write_text(
        "\n".join(line.replace(",", "\t") for line in (lines[0], "a.png,What?,yes,no", "a,b"))
    )
    rows = load_rows(DataConfig(source=str(folder / "rows.tsv")))
    assert pair(rows.example(0)) == ("What?", "yes", "no")
    with pytest.raises(RowError, match="2 cells, the header 4"):
        rows.example(1)


def test_a_csv_with_an_open_quote_is_named(folder):
    (folder / "rows.csv").write_text('image,question,chosen,rejected\na.png,"What?,yes,no\n')
    with pytest.raises(DataError, match=r"rows.csv: not a readable table"):
        load_rows(DataConfig(source=str(folder / "rows.csv")))


def shard(path: Path, members: dict[str, bytes], link: str | None = None) -> None:
    with tarfile.open(path, "w") as archive:
        for name, content in members.items():
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
        if link:
            info = tarfile.TarInfo("000009.jpg")
            info.type, info.linkname = tarfile.SYMTYPE, link
            archive.addfile(info)


def test_a_webdataset_shard_is_rows_of_its_samples(folder):
    columns = json.dumps({"question": "What?", "chosen": "yes", "rejected": "no"}).encode()
    members = {"x/000000.png": png(), "x/000000.json": columns, "x/000001.0.png": png(), "x/000001.1.png": png()}
    members |= {"x/000001.question.txt": b"What?", "x/000001.chosen.txt": b"yes", "x/000001.rejected.txt": b"no"}
    shard(folder / "train-000.tar", members | {"x/000002.pkl": b"cos\nsystem\n."}, link="/etc/passwd")
    rows = load_rows(DataConfig(source=str(folder / "train-000.tar")))
    assert len(rows) == 2  # neither the pickle nor the link is a row
    assert pair(rows.example(0)) == pair(rows.example(1)) == ("What?", "yes", "no")
    assert [len(rows.example(i).images) for i in range(2)] == [1, 2]
    assert rows.example(1).images[1].open().size == (8, 8)


def test_a_caption_in_a_shard_is_an_answer(folder):
    shard(folder / "s.tar", {"1.png": png(), "1.txt": b"A grey square.\n", "2.png": png(), "2.json": b"[1]"})
    rows = load_rows(DataConfig(source=str(folder / "s.tar")))
    assert rows.example(0).responses[0].text == "A grey square."
    with pytest.raises(RowError, match="not a JSON object"):
        rows.example(1)


@settings(max_examples=drawn(30), deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 4000), st.binary(min_size=1, max_size=40))
def test_a_damaged_shard_is_refused_or_read(folder, position, noise):
    path = folder / "fuzz.tar"
    shard(path, {"1.png": png(), "1.txt": b"x", "2.json": b"{}"})
    content = bytearray(path.read_bytes())
    content[position : position + len(noise)] = noise
    path.write_bytes(content)
    try:
        rows = load_rows(DataConfig(source=str(path)))
    except DataError:
        return
    for i in range(len(rows)):
        try:
            rows.example(i)
        except RowError as error:
            assert "fuzz.tar" in str(error)


def test_columns_are_renamed_by_the_recipe(folder):
    (folder / "rows.jsonl").write_text(
        json.dumps({"bild": "a.png", "frage": "Was?", "gut": "ja", "schlecht": "nein", "id": 4})
    )
    columns = {"image": "bild", "question": "frage", "chosen": "gut", "rejected": "schlecht"}
    example = load_rows(DataConfig(source=str(folder / "rows.jsonl"), columns=columns)).example(0)
    assert pair(example) == ("Was?", "ja", "nein") and example.row == {"id": 4} and len(example.images) == 1


REGISTRY = {
    "rlhf_v": {
        "file_name": "rlhf_v.json", "ranking": True, "formatting": "sharegpt",
        "columns": {"messages": "conversations", "chosen": "chosen", "rejected": "rejected", "images": "images"},
    },
    "mllm_demo": {
        "file_name": "mllm_demo.json", "formatting": "sharegpt",
        "columns": {"messages": "messages", "images": "images"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    },
    "rlaif_v": {
        "file_name": "rlaif_v.json", "ranking": True,
        "columns": {"prompt": "question", "chosen": "chosen", "rejected": "rejected", "images": "image"},
    },
    "identity": {"file_name": "identity.json", "num_samples": 2},
    "kto": {
        "file_name": "kto.json", "formatting": "sharegpt", "columns": {"messages": "messages", "kto_tag": "label"},
        "tags": {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"},
    },
    "script": {"script_url": "x"},
    "gone": {"file_name": "gone.json"},
}  # fmt: skip


@pytest.fixture
def registry(folder) -> Path:
    """A LLaMA-Factory data folder: dataset_info.json with the files beside it."""
    says = [{"role": "user", "content": "<image>What?"}, {"role": "assistant", "content": "yes"}]
    turn = {"from": "human", "value": "<image>What?"}
    answers = {"chosen": {"from": "gpt", "value": "yes"}, "rejected": {"from": "gpt", "value": "no"}}
    files = {
        "rlhf_v": [{"conversations": [turn], **answers, "images": ["a.png"], "idx": 5}],
        "mllm_demo": [{"messages": says, "images": ["a.png"]}],
        "rlaif_v": [{"image": "a.png", "question": "What?", "chosen": "yes", "rejected": "no", "output": "ignored"}],
        "identity": [{"instruction": f"What {i}?", "input": "", "output": "yes"} for i in range(5)],
        "kto": [{"messages": [{"role": "user", "content": "What?"}, says[1]], "label": False}],
    }
    for name, rows in files.items():
        (folder / f"{name}.json").write_text(json.dumps(rows))
    (folder / "dataset_info.json").write_text(json.dumps(REGISTRY))
    return folder / "dataset_info.json"


def test_llama_factorys_registry_is_read_as_it_is(registry):
    rows = load_rows(DataConfig(registry=str(registry), names=["rlhf_v", "mllm_demo", "rlaif_v", "identity", "kto"]))
    examples = [rows.example(i) for i in range(len(rows))]
    assert [e.source for e in examples] == ["rlhf_v", "mllm_demo", "rlaif_v", "identity", "identity", "kto"]
    assert pair(examples[0]) == pair(examples[2]) == ("What?", "yes", "no")
    assert pair(examples[1]) == ("What?", "yes")
    assert [len(e.images) for e in examples] == [1, 1, 1, 0, 0, 0]
    assert examples[0].images[0].open().size == (8, 8) and examples[0].row == {"idx": 5}
    assert examples[5].responses[0].label is False
    assert load_rows(DataConfig(registry=str(registry.parent), names=["kto"])).example(0).row_number == 0


def test_the_registrys_defaults_hold_until_columns_are_given(registry):
    """`rlaif_v` lists no response column, so its `output` is no answer; `identity` lists nothing, so it is."""
    rows = load_rows(DataConfig(registry=str(registry), names=["rlaif_v", "identity"]))
    assert len(rows.example(0).responses) == 2 and rows.example(1).responses[0].text == "yes"


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["nothing"], "has no 'nothing'. It has rlhf_v"),
        ([], "say which data sets"),
        (["script"], "neither hf_hub_url nor file_name"),
        (["gone"], "gone.json', which is not there"),
    ],
)
def test_registry_mistakes_are_named(registry, names, expected):
    with pytest.raises(DataError, match=expected):
        load_rows(DataConfig(registry=str(registry), names=names))


def test_mmprs_meta_file_is_read_with_its_authors_paths(tmp_path):
    (tmp_path / "annotations").mkdir()
    (tmp_path / "images" / "vqa").mkdir(parents=True)
    (tmp_path / "images" / "vqa" / "a.png").write_bytes(png())
    line = {"image": "a.png", "question": "<image>\nWhat?", "chosen": "yes", "rejected": "no"}
    (tmp_path / "annotations" / "vqa.jsonl").write_text("\n".join(json.dumps(line) for _ in range(4)))
    entry = {"root": "MMPR/images/vqa", "annotation": "/mnt/authors/MMPR/annotations/vqa.jsonl", "length": 4}
    meta = {"vqa": {**entry, "repeat_time": 2}, "half": {**entry, "repeat_time": 0.5}}
    (tmp_path / "meta.json").write_text(json.dumps(meta))
    rows = load_rows(DataConfig(source=str(tmp_path / "meta.json")))
    assert rows.formats == {"vqa": "mmpr", "half": "mmpr"}
    assert [rows.name(i).split(":")[0] for i in range(len(rows))] == ["vqa"] * 8 + ["half"] * 2
    assert pair(rows.example(0)) == ("What?", "yes", "no")
    assert rows.example(9).images[0].open().size == (8, 8)
    (tmp_path / "annotations" / "vqa.jsonl").unlink()
    with pytest.raises(DataError, match="annotation file of 'vqa'"):
        load_rows(DataConfig(source=str(tmp_path / "meta.json")))


def test_a_mixture_takes_weights_and_limits(folder):
    for name, count in (("one", 10), ("two", 6)):
        lines = [json.dumps({"question": f"{name} {i}?", "chosen": "yes", "rejected": "no"}) for i in range(count)]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    one, two = (
        SourceConfig(source=str(folder / f"{n}.jsonl"), weight=w, limit=c)
        for n, w, c in [("one", 0.5, None), ("two", 2.5, 4)]
    )
    config = DataConfig(mixture=[one, two])
    rows = load_rows(config)
    counts = {name: sum(rows.name(i).startswith(name) for i in range(len(rows))) for name in ("one", "two")}
    assert counts == {"one": 5, "two": 10}
    seen = [rows.name(i) for i in range(len(rows)) if rows.name(i).startswith("two")]
    assert {seen.count(name) for name in seen} == {2, 3} and len(set(seen)) == 4
    assert [rows.name(i) for i in range(15)] == [load_rows(config).name(i) for i in range(15)]
    with pytest.raises(RecipeError, match="give one of source, registry and mixture"):
        load_rows(DataConfig(mixture=[one], source="x"))


SHARED = Path(__file__).parents[3] / "shared" / "data"


@pytest.mark.skipif(not SHARED.is_dir(), reason="the question files of AMBER and POPE are not here")
def test_popes_and_ambers_question_files_are_read_as_they_are():
    pope = load_rows(DataConfig(source=str(SHARED / "pope" / "coco_pope_random.json"), columns={"question": "text"}))
    assert len(pope) == 3000 and pope.formats == {"coco_pope_random.json": "columns"}
    answers = [pope.example(i).responses[0].text for i in range(3000)]
    assert answers.count("yes") == answers.count("no") == 1500 and len(pope.example(0).images) == 1
    amber = load_rows(DataConfig(source=str(SHARED / "amber" / "query" / "query_generative.json")))
    prompt = amber.example(0)
    assert (
        len(amber) == 1004 and not prompt.responses and prompt.prompt[0]["content"][1]["text"] == "Describe this image."
    )


def test_rows_in_order_are_read_front_to_back_and_bad_ones_are_errors(folder):
    (folder / "rows.jsonl").write_text('{"question": "0?"}\nno json\n{"question": "2?"}\n{"question": "3?"}\n')
    rows = load_rows(DataConfig(source=str(folder / "rows.jsonl")))
    for selected in (rows, rows.select([1, 3]), rows.select([3, 1])):
        entries = list(selected.entries())
        assert [e.name for e in entries] == [selected.name(i) for i in range(len(selected))]
        assert [isinstance(e.row, RowError) for e in entries] == [e.number == 1 for e in entries]


def test_an_entry_is_small_enough_to_send(folder):
    rows = rows_of([{"question": f"{i}?", "answer": "x" * 100} for i in range(1000)])
    assert all(len(pickle.dumps(entry)) < 1000 for entry in rows.entries())
    assert [e.example().row_number for e in pickle.loads(pickle.dumps(list(rows.entries())))] == list(range(1000))
