"""Every kind of data, its files changed at random (by a seed) many times: rows, named defects, or one paragraph.

Read by `data check`, `data show` and `data convert`, index and stream. A traceback, a crash, more than two minutes or
4 GiB are faults.
"""

import csv
import io
import json
import random
import shutil
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import datasets
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from tests.full.forked import command, import_what_is_used, note, report

NUMBER = 60
"""Changed copies of each source."""
NOISE = [
    b"\x00", b"\xff\xfe", b"\xef\xbb\xbf", b'"', b"\n", b"\r", b"\\u", b"\\ud800", b",", b"{", b"[", b"]", b"}",
    b"null", b"-", b"1e999", b"NaN", b"true", b"../", b"\x80\x80", b"\x7f" * 8, b"<image>", b"9" * 400,
]  # fmt: skip


def png(shade: int) -> bytes:
    sink = io.BytesIO()
    Image.new("RGB", (64, 48), (shade, 40, 90)).save(sink, "PNG")
    return sink.getvalue()


def rows(**image: Any) -> list[dict[str, Any]]:
    return [
        {
            "question": f'Wörter, "und"\n{i}?',
            "chosen": f"yes {i}",
            "rejected": "no",
            **{k: v(i) for k, v in image.items()},
        }
        for i in range(6)
    ]


def with_images(folder: Path) -> list[dict[str, Any]]:
    """Rows that name images beside them."""
    (folder / "images").mkdir(parents=True)
    for i in range(6):
        (folder / "images" / f"{i}.png").write_bytes(png(40 * i))
    return rows(image=lambda i: f"images/{i}.png")


def turns(question: str, answer: str) -> list[dict[str, str]]:
    return [{"from": "human", "value": f"<image>\n{question}"}, {"from": "gpt", "value": answer}]


def parquet(folder: Path) -> Path:
    folder.mkdir(parents=True)
    embedded = rows(image=lambda i: {"bytes": png(40 * i), "path": f"{i}.png"})
    pq.write_table(pa.Table.from_pylist(embedded), folder / "rows.parquet", row_group_size=2)
    return folder / "rows.parquet"


def jsonl(folder: Path) -> Path:
    lines = "\n".join(json.dumps(row, ensure_ascii=False) for row in with_images(folder))
    (folder / "rows.jsonl").write_text(lines)
    return folder / "rows.jsonl"


def json_list(folder: Path) -> Path:
    (folder / "rows.json").write_text(json.dumps(with_images(folder), indent=1))
    return folder / "rows.json"


def conversations(folder: Path) -> Path:
    """LLaVA's: turns by `from` and `value`, an image each."""
    turned = [
        {"id": str(i), "image": row["image"], "conversations": turns(row["question"], row["chosen"])}
        for i, row in enumerate(with_images(folder))
    ]
    (folder / "rows.json").write_text(json.dumps(turned))
    return folder / "rows.json"


def delimited(folder: Path, suffix: str = "csv", delimiter: str = ",") -> Path:
    given = with_images(folder)
    with (folder / f"rows.{suffix}").open("w", newline="") as file:
        writer = csv.DictWriter(file, given[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(given)
    return folder / f"rows.{suffix}"


def tabs(folder: Path) -> Path:
    return delimited(folder, "tsv", "\t")


def tar(folder: Path) -> Path:
    folder.mkdir(parents=True)
    with tarfile.open(folder / "rows.tar", "w") as archive:
        for i, row in enumerate(rows()):
            for name, content in ((f"{i:03}.json", json.dumps(row).encode()), (f"{i:03}.png", png(40 * i))):
                info = tarfile.TarInfo(name)
                info.size = len(content)
                archive.addfile(info, io.BytesIO(content))
    return folder / "rows.tar"


def arrow(folder: Path) -> Path:
    folder.mkdir(parents=True)
    table = pa.Table.from_pylist(rows(image=lambda i: {"bytes": png(40 * i), "path": None}))
    with pa.OSFile(str(folder / "rows.arrow"), "wb") as sink, pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return folder / "rows.arrow"


def saved(folder: Path) -> Path:
    datasets.Dataset.from_list(rows(image=lambda i: {"bytes": png(40 * i), "path": None})).save_to_disk(folder)
    return folder


def saved_splits(folder: Path) -> Path:
    part = datasets.Dataset.from_list(rows())
    datasets.DatasetDict(train=part, test=part).save_to_disk(folder)
    return folder


def splits(folder: Path) -> Path:
    """A folder of files that are named for their splits."""
    parquet(folder / "data")
    (folder / "data" / "rows.parquet").rename(folder / "data" / "train-00000-of-00001.parquet")
    (folder / "validation.jsonl").write_text("\n".join(map(json.dumps, rows())))
    return folder


def registry(folder: Path) -> Path:
    """LLaMA-Factory's dataset_info.json, and a file that it names."""
    turned = [
        {"conversations": turns(row["question"], row["chosen"]), "images": [row["image"]]}
        for row in with_images(folder)
    ]
    (folder / "rows.json").write_text(json.dumps(turned))
    columns = {"messages": "conversations", "images": "images"}
    tags = {"role_tag": "from", "content_tag": "value", "user_tag": "human", "assistant_tag": "gpt"}
    entry = {"file_name": "rows.json", "formatting": "sharegpt", "columns": columns, "tags": tags}
    (folder / "dataset_info.json").write_text(json.dumps({"mine": entry}))
    return folder / "dataset_info.json"


def internvl(folder: Path) -> Path:
    turned = [
        {"id": i, "image": f"{i}.png", "conversations": turns(row["question"], row["chosen"])}
        for i, row in enumerate(with_images(folder))
    ]
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, turned)))
    entry = {"root": str(folder / "images"), "annotation": str(folder / "rows.jsonl"), "repeat_time": 1, "length": 6}
    (folder / "meta.json").write_text(json.dumps({"mine": entry}))
    return folder / "meta.json"


SOURCES: dict[str, Callable[[Path], Path]] = {
    one.__name__: one
    for one in (
        parquet, jsonl, json_list, conversations, delimited, tabs, tar, arrow, saved, saved_splits, splits, registry,
        internvl,
    )
}  # fmt: skip


def change(path: Path, draw: random.Random) -> None:
    """One file, changed in one of several ways; small ones of JSON also by their values."""
    content = bytearray(path.read_bytes())
    if path.suffix == ".json" and draw.random() < 0.5:
        path.write_text(json.dumps(another(json.loads(content), draw)))
        return
    for _ in range(draw.choice((1, 1, 2, 5))):
        place, length = draw.randrange(len(content) + 1), draw.choice((1, 4, 40, len(content) // 3))
        match draw.choice(("flip", "insert", "overwrite", "delete", "repeat", "end", "swap")):
            case "flip" if place < len(content):
                content[place] ^= 1 << draw.randrange(8)
            case "insert":
                content[place:place] = draw.choice(NOISE)
            case "overwrite":
                noise = draw.choice(NOISE)
                content[place : place + len(noise)] = noise
            case "delete":
                del content[place : place + length]
            case "repeat":
                content[place:place] = content[place : place + length]
            case "end":
                del content[place:]
            case "swap":
                content = content[place:] + content[:place]
    path.write_bytes(content)


def another(tree: Any, draw: random.Random) -> Any:
    """The same JSON with one value that is of another kind, or gone."""
    if isinstance(tree, dict | list) and tree and draw.random() < 0.85:
        keys = list(tree) if isinstance(tree, dict) else list(range(len(tree)))
        key = draw.choice(keys)
        if draw.random() < 0.15:
            del tree[key]
        else:
            tree[key] = another(tree[key], draw)
        return tree
    return draw.choice(
        (None, 0, -1, 2**70, 1.5, "", "x", True, [], {}, [[]], [None], {"a": {}}, "\x00", "\ud800", ["a", 1])
    )


def commands_for(source: Path, out: Path) -> list[list[str]]:
    chosen = [str(source)]
    if source.name == "dataset_info.json":
        data = {"registry": str(source), "names": ["mine"]}
        recipe = {"model": "embedded", "data": data, "objective": {"type": "sft"}}
        (out.parent / "recipe.yaml").write_text(json.dumps(recipe))
        chosen = ["--recipe", str(out.parent / "recipe.yaml")]
    return [
        ["data", "check", *chosen],
        ["data", "show", *chosen, "--html", str(out.with_suffix(".html"))],
        ["data", "convert", *chosen, "--output", str(out)],
    ]


@pytest.mark.parametrize("kind", SOURCES)
def test_changed_files_are_read_or_named(kind: str, tmp_path: Path) -> None:
    whole = SOURCES[kind](tmp_path / "whole")
    for argv in commands_for(whole, tmp_path / "out"):
        outcome = import_what_is_used(argv, tmp_path / "log")
        assert outcome.code == 0, outcome.said
    outcomes, faults = {}, []
    for number in range(NUMBER):
        draw = random.Random(f"{kind} {number}")
        shutil.rmtree(tmp_path / "copy", ignore_errors=True)
        shutil.copytree(tmp_path / "whole", tmp_path / "copy")
        source = tmp_path / "copy" / whole.relative_to(tmp_path / "whole")
        if kind == "internvl":
            (tmp_path / "copy" / "meta.json").write_text(whole.read_text().replace("/whole/", "/copy/"))
        files = [path for path in sorted((tmp_path / "copy").rglob("*")) if path.is_file()]
        tables = [path for path in files if path.suffix != ".png"]
        changed = draw.choice(tables * 3 + files)
        change(changed, draw)
        argv = commands_for(source, tmp_path / f"out{number}")[number % 3]
        outcome = command(argv, tmp_path / "log")
        label = f"{number} {' '.join(argv[:2])} {changed.name}"
        outcomes[label] = outcome.kind
        if outcome.is_fault:
            note(faults, f"{kind} {label}: {outcome.kind}: {outcome.complaint[:500]}")
    report(f"Changed files of `{kind}`", outcomes)
    assert not faults
