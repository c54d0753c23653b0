"""Webdataset shards as public reports have them: images come in the order that their author gave them."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from sightline.config.data import DataConfig
from sightline.data.sources.load import load_rows, streams_of
from sightline.data.stream.passes import Passes
from tests.cases.cases import COLOURS, outcome

ASKED: dict[str, Any] = {"question": "Which?", "answer": "Red."}


def image(colour: str, kind: str = "PNG") -> bytes:
    buffer = io.BytesIO()
    Image.new("RGB", (32, 32), COLOURS[colour]).save(buffer, kind, **({"quality": 100} if kind == "JPEG" else {}))
    return buffer.getvalue()


def shard(path: Path, members: dict[str, Any]) -> str:
    with tarfile.open(path, "w") as archive:
        for name, value in members.items():
            content = json.dumps(value).encode() if isinstance(value, dict) else value
            info = tarfile.TarInfo(name)
            info.size = len(content)
            archive.addfile(info, io.BytesIO(content))
    return str(path)


RED, GREEN, BLUE = (image(colour) for colour in COLOURS)
SHARDS = {
    "before and after (webdataset #20)": (
        {"s.json": ASKED, "s.before.png": RED, "s.after.png": GREEN},
        ["user: {red}{green}Which? -> Red."],
    ),
    "numbers up to 11 (webdataset #289)": (
        {"s.json": ASKED, **{f"s.{i}.png": (RED, GREEN, BLUE)[i % 3] for i in range(12)}},
        ["user: " + "{red}{green}{blue}" * 4 + "Which? -> Red."],
    ),
    "a list in the JSON (webdataset #289)": (
        {"s.json": {**ASKED, "images": ["right", "left"]}, "s.left.png": RED, "s.right.png": GREEN},
        ["user: {green}{red}Which? -> Red."],
    ),
    "a list of whole names": (
        {"s.left.png": RED, "s.right.png": GREEN, "s.json": {**ASKED, "images": ["x/s.right.png", "left.png"]}},
        ["user: {green}{red}Which? -> Red."],
    ),
    "a list that names others": (
        {"s.json": {**ASKED, "images": ["a.png", "b.png"]}, "s.left.png": RED, "s.right.png": GREEN},
        ["columns disagree"],
    ),
    "a list of fewer": (
        {"s.json": {**ASKED, "images": ["left"]}, "s.left.png": RED, "s.right.png": GREEN},
        ["columns disagree"],
    ),
    "one image with another name": (
        {"s.json": {**ASKED, "image": "original/dog.jpg"}, "s.png": RED},
        ["user: {red}Which? -> Red."],
    ),
    "two kinds of files (webdataset #20)": (
        {"s.json": ASKED, "s.png": RED, "s.jpg": image("blue", "JPEG")},
        ["user: {red}{(0, 0, 254)}Which? -> Red."],
    ),
    "names with a dot (webdataset #20)": (
        {"a.v1.json": ASKED, "a.v1.png": RED, "a.v2.json": {**ASKED, "question": "And?"}, "a.v2.png": GREEN},
        ["columns disagree"],
    ),
    "two texts for one column": ({"s.png": RED, "s.txt": b"A", "s.caption.txt": b"B"}, ["columns disagree"]),
    "a film beside the question": ({"s.json": ASKED, "s.mp4": b"\0\0\0\x18ftypmp42"}, ["media not read"]),
    "sound beside an image": ({"s.json": ASKED, "s.png": RED, "s.wav": b"RIFF\0\0\0\0WAVE"}, ["media not read"]),
}


@pytest.mark.parametrize(("members", "right"), SHARDS.values(), ids=SHARDS)
def test_a_shards_images_keep_their_order(tmp_path, members, right):
    source = shard(tmp_path / "train-000.tar", members)
    rows = load_rows(DataConfig(source=source))
    assert [outcome(rows, index) for index in range(len(rows))] == right
    stream = Passes(streams_of(DataConfig(source=source, streaming=True)), seed=None)
    entry = stream.next()
    assert entry is not None and str(entry.row) == str(next(iter(rows.entries())).row)
