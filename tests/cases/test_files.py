"""Files as public reports have them: tables, folders and registries, read whole or named."""

import base64
import gzip
import io
import json
import time
import unicodedata
from pathlib import Path
from typing import Any

import datasets
import pytest
from PIL import Image

from sightline.cli.main import main
from sightline.config.data import DataConfig
from sightline.data.rows import Rows
from sightline.data.sources.files import splits_in
from sightline.data.sources.load import load_rows
from sightline.errors import DataError
from tests.cases.cases import COLOURS, outcome, paint

READ = "user: {red}Which? -> Red."
QA = {"image": "red.png", "question": "Which?", "answer": "Red."}


def in_base64(colour: str = "red", kind: str = "PNG") -> str:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), COLOURS[colour]).save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def outcomes(rows: Rows) -> list[str]:
    return [outcome(rows, index) for index in range(len(rows))]


def table(path: Path, *lines: str) -> Rows:
    path.write_text("\n".join(lines), encoding="utf-8")
    return load_rows(DataConfig(source=str(path)))


def test_cells_are_text_whatever_they_look_like(tmp_path):
    """Qwen3-VL #1188, ms-swift #910: boxes in CSV."""
    rows = table(
        paint(tmp_path) / "rows.csv",
        "image,question,answer",
        'red.png,Which?,"[12, 8, 50, 40]"',
        'red.png,Which?,"[""A1"", ""B2""]"',
        "\"['red.png', 'green.png']\",Which?,Red.",
        '"[""red.png""]",Which?,Red.',
        "red.png,Which?,true",
    )
    assert outcomes(rows) == [
        "user: {red}Which? -> [12, 8, 50, 40]",
        'user: {red}Which? -> ["A1", "B2"]',
        "user: {red}{green}Which? -> Red.",
        READ,
        "user: {red}Which? -> true",
    ]
    pairs = table(tmp_path / "pairs.csv", "image,question,chosen,rejected", 'red.png,Which?,"[1, 2]","[3, 4]"')
    assert outcomes(pairs) == ["user: {red}Which? -> [1, 2] -> [3, 4]"]


def test_labels_and_messages_in_cells(tmp_path):
    kto = table(tmp_path / "kto.csv", "prompt,completion,label", "Which?,Red.,True", "Which?,Green.,0", "Which?,Blue.,")
    assert outcomes(kto) == ["user: Which? -> Red. +", "user: Which? -> Green. -", "column has the wrong type"]
    said = json.dumps([{"role": "user", "content": "Which?"}, {"role": "assistant", "content": "Red."}])
    chats = table(tmp_path / "chats.csv", "messages,id", '"' + said.replace('"', '""') + '",4')
    assert outcomes(chats) == ["user: Which? -> Red."]
    past = table(tmp_path / "past.csv", "query,response,history", 'And?,Black.,"[[""Which?"", ""Red.""]]"')
    assert outcomes(past) == ["user: Which? | assistant: Red. | user: And? -> Black."]


def test_images_in_base64(tmp_path):
    """OFA #106, sglang #7199: VLMEvalKit's tables, and data URIs of every kind."""
    assert len(in_base64("red", "BMP")) > 100
    rows = table(
        tmp_path / "vlmeval.tsv",
        "index\timage\tquestion\tanswer",
        *(f"{i}\t{in_base64('red', kind)}\tWhich?\tRed." for i, kind in enumerate(("PNG", "BMP", "GIF", "TIFF"))),
    )
    assert outcomes(rows) == [READ] * 4
    code = in_base64()
    wrapped = "\n".join(code[i : i + 76] for i in range(0, len(code), 76))
    urlsafe = code.replace("+", "-").replace("/", "_").rstrip("=")
    images: list[Any] = [
        code, wrapped, urlsafe, {"bytes": code}, {"base64": code},
        *(f"data:image/png;base64,{c}" for c in (code, wrapped, urlsafe)),
        f"data:image/png;charset=utf-8;base64,{code}", f"data:application/octet-stream;base64,{code}",
        f"data:;base64,{code}", f"DATA:IMAGE/PNG;BASE64,{code}", {"url": f"data:image/png;base64,{code}"},
        list(base64.b64decode(code)), {"bytes": list(base64.b64decode(code)), "path": None},
    ]  # fmt: skip
    rows = table(tmp_path / "rows.jsonl", *(json.dumps({**QA, "image": image}) for image in images))
    assert outcomes(rows) == [READ] * len(images)
    parts = [
        {"type": "image", "base64": code}, {"type": "image", "source": {"type": "base64", "data": code}},
        {"type": "image_url", "image_url": {"url": f"data:image/png;base64,{code}"}},
        {"type": "input_image", "image_url": f"data:image/png;base64,{code}"}, {"image": code},
    ]  # fmt: skip
    says = [[{"role": "user", "content": [part, {"type": "text", "text": "Which?"}]},
             {"role": "assistant", "content": "Red."}] for part in parts]  # fmt: skip
    rows = table(tmp_path / "parts.jsonl", *(json.dumps({"messages": said}) for said in says))
    assert outcomes(rows) == [READ] * len(parts)
    rows = table(tmp_path / "bad.jsonl", json.dumps({**QA, "image": "data:image/png;base64,§§§"}),
                 json.dumps({**QA, "image": "data:image/svg+xml,<svg/>"}))  # fmt: skip
    assert outcomes(rows) == ["image undecodable"] * 2


def test_a_long_path_is_not_printed_whole(tmp_path):
    rows = table(tmp_path / "rows.jsonl", json.dumps({**QA, "image": "../" + "a" * 20_000}))
    with pytest.raises(DataError) as caught:
        rows.example(0)
    assert len(str(caught.value)) < 500


def test_a_name_in_another_unicode_form_is_shown(tmp_path):
    named = unicodedata.normalize("NFD", "café.png")
    paint(tmp_path)
    (tmp_path / "red.png").rename(tmp_path / named)
    for asked, hint in (
        (unicodedata.normalize("NFC", named), "same letters in another Unicode form"),
        (named.upper(), "upper and lower case"),
        (f"sub\\{named}", "backslashes"),
    ):
        rows = table(tmp_path / "rows.jsonl", json.dumps({**QA, "image": asked}))
        with pytest.raises(DataError, match=hint):
            rows.example(0).images[0].open()


def test_files_of_a_folder_that_would_be_left_out_are_named(tmp_path):
    row = json.dumps(QA)
    paint(tmp_path)
    (tmp_path / "a.jsonl").write_text(row)
    (tmp_path / "c.JSONL").write_text(row)
    assert outcomes(load_rows(DataConfig(source=str(tmp_path)))) == [READ] * 2
    (tmp_path / "images.zip").write_bytes(b"PK")
    (tmp_path / "README.md").write_text("Which color?")
    assert len(load_rows(DataConfig(source=str(tmp_path)))) == 2
    for name in ("b.jsonl.gz", "b.ndjson", "b.xlsx"):
        (tmp_path / name).write_bytes(gzip.compress(row.encode()))
        with pytest.raises(DataError, match=f"1 file.s. of rows that are not read: {name}"):
            load_rows(DataConfig(source=str(tmp_path)))
        (tmp_path / name).unlink()


def test_a_packed_file_says_so(tmp_path):
    (tmp_path / "b.jsonl.gz").write_bytes(gzip.compress(json.dumps(QA).encode()))
    with pytest.raises(DataError, match="Unpack it first"):
        load_rows(DataConfig(source=str(tmp_path / "b.jsonl.gz")))


def test_keys_and_columns_that_stand_twice_are_named(tmp_path):
    rows = table(tmp_path / "rows.jsonl", '{"question": "Which?", "answer": "Red.", "answer": "Green."}')
    assert outcomes(rows) == ["row unreadable"]
    with pytest.raises(DataError, match="'answer' stands twice"):
        table(tmp_path / "rows.json", '[{"question": "Which?", "answer": "Red.", "answer": "Green."}]')
    with pytest.raises(DataError, match="two columns are called 'answer'"):
        outcomes(table(tmp_path / "rows.csv", "question,answer,answer", "Which?,Red.,Green."))


def test_imagefolders_metadata(tmp_path):
    """diffusers #3674, datasets #6777."""
    paint(tmp_path)
    rows = table(tmp_path / "metadata.jsonl", '{"file_name": "red.png", "question": "Which?", "answer": "Red."}')
    assert outcomes(rows) == [READ]


CHAT = {"messages": [{"role": "user", "content": "<image>Which?"}, {"role": "assistant", "content": "Red."}]}
TAGS = {"role_tag": "role", "content_tag": "content", "user_tag": "user", "assistant_tag": "assistant"}


@pytest.mark.parametrize(
    ("row", "columns", "right"),
    [
        ({**CHAT, "images": ["red.png"]}, {"images": "images"}, READ),
        ({**CHAT, "images": ["red.png"]}, {}, "images differ from placeholders"),
        ({**CHAT, "messages": [{**CHAT["messages"][0], "content": "Which?"}, CHAT["messages"][1]],
          "images": ["red.png"]}, {}, "media not read"),
        ({**CHAT, "images": ["red.png"], "tools": '[{"name": "zoom"}]'}, {"images": "images", "tools": "tools"},
         "key not read"),
        ({**CHAT, "images": ["red.png"], "videos": ["a.mp4"]}, {"images": "images", "videos": "videos"},
         "media not read"),
        ({"messages": [CHAT["messages"][0], {**CHAT["messages"][1], "weight": 0}], "images": ["red.png"]},
         {"images": "images"}, "response empty"),
        ({"messages": [{"role": "system", "content": "A"}, *CHAT["messages"]], "images": ["red.png"], "system": "B"},
         {"images": "images", "system": "system"}, "system: A | user: {red}Which? -> Red."),
    ],
)  # fmt: skip
def test_llama_factorys_registry(tmp_path, row, columns, right):
    paint(tmp_path)
    (tmp_path / "chat.json").write_text(json.dumps([row]))
    tags = {**TAGS, "system_tag": "system"}
    entry = {"file_name": "chat.json", "formatting": "sharegpt", "columns": {"messages": "messages", **columns}}
    text = json.dumps({"chat": {**entry, "tags": tags}})
    (tmp_path / "dataset_info.json").write_text("\ufeff" + text, encoding="utf-8")
    assert outcomes(load_rows(DataConfig(registry=str(tmp_path), names=["chat"]))) == [right]


@pytest.mark.parametrize("change", [{"file_name": 3}, {"columns": "images"}, {"columns": {"images": 3}}, {"tags": []}])
def test_a_registry_of_another_kind_is_named(tmp_path, change):
    entry = {"file_name": "chat.json", "formatting": "sharegpt", **change}
    (tmp_path / "chat.json").write_text("[]")
    (tmp_path / "dataset_info.json").write_text(json.dumps({"chat": entry}))
    with pytest.raises(DataError, match=rf"{next(iter(change))} of 'chat' should be"):
        load_rows(DataConfig(registry=str(tmp_path), names=["chat"]))


def test_whole_numbers_of_any_size_are_converted(tmp_path):
    """datasets #6007."""
    source = tmp_path / "rows.jsonl"
    numbers = (10**30, 5, -(2**63))
    rows = [{"question": f"{i}?", "answer": "Red.", "id": value, "small": i} for i, value in enumerate(numbers)]
    source.write_text("\n".join(map(json.dumps, rows)))
    assert main(["data", "convert", str(source), "--output", str(tmp_path / "clean")]) == 0
    clean = load_rows(DataConfig(source=str(tmp_path / "clean" / "train.parquet")))
    assert [json.loads(clean.example(i).row["id"]) for i in range(3)] == [10**30, 5, -(2**63)]
    assert [clean.example(i).row["small"] for i in range(3)] == [0, 1, 2]


@pytest.mark.parametrize(
    "line",
    [
        '{"question": "Which?", "answer": "Red.", "source": "half \\ud83d emoji"}',
        '{"question": "Which?", "answer": "Red.", "so\\ud83durce": 1}',
        '{"question": "Which?", "answer": "Red.", "about": {"by": ["\\udc80"]}}',
        '{"question": "Which?", "answer": "Red \\ud83d."}',
        '{"question": "Which?", "answer": "Red.", "image": "a\\udc80.png"}',
    ],
    ids=["a column", "a name", "deep inside", "the answer", "a path"],
)
def test_half_a_character_is_a_defect_of_the_row(tmp_path, line, capsys):
    """transformers #8886."""
    source = tmp_path / "rows.jsonl"
    source.write_text(line + "\n" + json.dumps({"question": "And?", "answer": "Blue."}))
    assert main(["data", "check", str(source), "--json"]) == 1
    (defect,) = json.loads(capsys.readouterr().out)["defects"]
    assert defect["rows"] == ["rows.jsonl:0"] and defect["name"] in ("column has the wrong type", "image missing")
    assert main(["data", "show", str(source), "--html", str(tmp_path / "rows.html")]) == 0
    skipping = ["data", "convert", str(source), "--skip-bad-rows", "--output", str(tmp_path / "clean")]
    assert main(skipping) == 0
    assert len(load_rows(DataConfig(source=str(tmp_path / "clean")))) == 1


def test_one_string_of_ten_megabytes_is_a_defect_and_costs_its_own_size(tmp_path):
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps({"question": "Which?", "answer": "red " * 2_500_000}))
    assert outcomes(load_rows(DataConfig(source=str(source)))) == ["text too long"]
    spaces = "<|im_start|>user\n" + " " * 900_000 + "x"
    source.write_text(json.dumps({"prompt": spaces, "completion": "Red."}))
    begin = time.process_time()
    assert outcomes(load_rows(DataConfig(source=str(source)))) == ["response missing"]
    assert time.process_time() - begin < 2


def test_a_image_with_gigabytes_after_it_is_not_embedded(tmp_path, capsys):
    paint(tmp_path)
    with (tmp_path / "red.png").open("r+b") as file:
        file.truncate(3 * 2**30)  # a hole: nothing is written
    source = tmp_path / "rows.jsonl"
    source.write_text(json.dumps(QA))
    assert outcomes(load_rows(DataConfig(source=str(source)))) == [READ]
    assert main(["data", "convert", str(source), "--output", str(tmp_path / "clean")]) == 2
    assert "3,221,225,472 bytes" in capsys.readouterr().err


@pytest.mark.parametrize("splits", [b'{"splits": 7}', b'{"splits": []}', b"[]", b"{", b'{"splits": [1]}', b"null"])
def test_splits_of_a_saved_data_set_that_are_no_names_are_named(tmp_path, splits):
    part = datasets.Dataset.from_list([QA])
    datasets.DatasetDict(train=part).save_to_disk(tmp_path / "saved")
    (tmp_path / "saved" / "dataset_dict.json").write_bytes(splits)
    with pytest.raises(DataError, match=r"saved.*Save .* again with save_to_disk"):
        load_rows(DataConfig(source=str(tmp_path / "saved"), split="train"))
    with pytest.raises(DataError, match=r"dataset_dict.json: .*Save the data set again"):
        splits_in(tmp_path / "saved")


@pytest.mark.parametrize(("file", "key"), [("state.json", "_data_files"), ("dataset_info.json", "features")])
@pytest.mark.parametrize("value", [7, [7], "x", [[]]])
def test_a_saved_data_set_whose_description_is_damaged_is_named(tmp_path, file, key, value):
    datasets.Dataset.from_list([QA]).save_to_disk(tmp_path / "saved")
    path = tmp_path / "saved" / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(DataError, match="saved: the data set cannot be read"):
        load_rows(DataConfig(source=str(tmp_path / "saved")))


@pytest.mark.parametrize(
    ("key", "value"),
    [("repeat_time", v) for v in ("x", None, True, 0, -1, 1e400, 10**9)] + [("root", 7), ("annotation", [])],
)
def test_a_value_of_a_meta_file_that_cannot_be_is_named(tmp_path, key, value):
    (paint(tmp_path) / "rows.jsonl").write_text(json.dumps(QA))
    entry = {"root": str(tmp_path), "annotation": str(tmp_path / "rows.jsonl"), "repeat_time": 1, key: value}
    (tmp_path / "meta.json").write_text(json.dumps({"mine": entry}))
    with pytest.raises(DataError, match=f"meta.json: {key} of 'mine' is .*; expected is"):
        load_rows(DataConfig(source=str(tmp_path / "meta.json")))
