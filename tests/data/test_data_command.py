"""`sightline data`: what it prints, what it writes, and its exit codes."""

import json
import random
import time
from html.parser import HTMLParser
from pathlib import Path

import datasets
import numpy as np
import pytest
from PIL import Image

from examples import demo_pairs as real_pairs
from sightline.cli.main import main
from sightline.config.data import DataConfig
from sightline.data.checks.show import word_diff
from sightline.data.sources.load import load_rows

COLOURS = [Image.fromarray(np.random.default_rng(i).integers(0, 255, (40, 40, 3), dtype=np.uint8)) for i in range(3)]


@pytest.fixture
def pairs(tmp_path) -> Path:
    """The hand-written pairs as parquet."""
    datasets.disable_progress_bars()
    rows = datasets.Dataset.from_list(real_pairs.rows()).cast_column("image", datasets.Image())
    rows.to_parquet(str(tmp_path / "pairs.parquet"))
    return tmp_path / "pairs.parquet"


@pytest.fixture
def broken(tmp_path) -> Path:
    """Ten JSON rows, of which two are bad."""
    COLOURS[0].save(tmp_path / "a.png")
    rows = [{"image": "a.png", "question": f"{i}?", "chosen": f"yes {i}", "rejected": f"no {i}"} for i in range(10)]
    rows[3]["chosen"], rows[7]["image"] = "", "gone.png"
    (tmp_path / "broken.jsonl").write_text("\n".join(map(json.dumps, rows)))
    return tmp_path / "broken.jsonl"


def test_check_of_clean_rows_ends_with_0_and_of_others_with_1(pairs, broken, capsys):
    assert main(["data", "check", str(pairs)]) == 0
    assert "No defect found" in capsys.readouterr().out
    assert main(["data", "check", str(broken)]) == 1
    printed = capsys.readouterr().out
    assert "response empty" in printed and "broken.jsonl:7" in printed and "media_dir" in printed.replace("\n", "")


def test_check_as_json_is_an_object_and_nothing_else(broken, capsys):
    assert main(["data", "check", str(broken), "--json", "--num-proc", "2"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert found["rows"] == 10 and found["formats"] == {"broken.jsonl": "columns"}
    assert {d["name"]: (d["count"], d["rows"]) for d in found["defects"]} == {
        "image missing": (1, ["broken.jsonl:7"]),
        "response empty": (1, ["broken.jsonl:3"]),
    }


@pytest.mark.parametrize("content", ["", "not json\nneither\n", '{"width": 3}\n'])
def test_check_of_what_cannot_be_read_ends_with_2(tmp_path, capsys, content):
    (tmp_path / "x.jsonl").write_text(content)
    assert main(["data", "check", str(tmp_path / "x.jsonl")]) == 2
    assert "error: " in capsys.readouterr().err


def test_check_with_a_recipe_takes_its_data_its_objective_and_its_model(pairs, tmp_path, tiny_model, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"model": str(tiny_model("llava")), "data": {"source": str(pairs), "max_length": 30}}))
    assert main(["data", "check", "--recipe", str(recipe), "--json"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert {d["name"] for d in found["defects"]} <= {"overlong", "image too large"}
    recipe.write_text(json.dumps({"model": str(tiny_model("llava")), "data": str(pairs), "objective": "sft"}))
    assert main(["data", "check", str(recipe), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)["tokens"]["min"] > 16


class Outline(HTMLParser):
    """Counts tags, and collects what `src` and `href` point to."""

    def __init__(self) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href")]


def test_show_prints_rows_and_draws_a_page_that_needs_nothing_else(pairs, tmp_path, capsys):
    page = tmp_path / "rows.html"
    assert main(["data", "show", str(pairs), "--rows", "5", "--start", "2", "--html", str(page)]) == 0
    printed = capsys.readouterr().out
    assert "pairs.parquet:2" in printed and "pairs.parquet:7" not in printed and "read as columns" in printed
    outline = Outline()
    outline.feed(page.read_text())
    assert outline.tags.count("article") == outline.tags.count("img") == 5
    assert all(link.startswith("data:image/jpeg;base64,") for link in outline.links)
    assert "script" not in outline.tags and "<mark>" in page.read_text()


def test_show_escapes_what_rows_say_and_shows_bad_rows(broken, tmp_path, capsys):
    row = {"image": "a.png", "question": "<script>alert(1)</script>[red]", "chosen": "[b]", "rejected": "x"}
    broken.write_text(json.dumps(row) + "\nno json\n")
    assert main(["data", "show", str(broken), "--html", str(tmp_path / "page.html")]) == 0
    page = (tmp_path / "page.html").read_text()
    assert "<script>" not in page and "&lt;script&gt;" in page and "not JSON" in page
    assert "[red]" in capsys.readouterr().out
    assert main(["data", "show", str(broken), "--html", str(tmp_path / "page.html"), "--json"]) == 0
    good, bad = map(json.loads, capsys.readouterr().out.splitlines())
    assert good["prompt"] == [{"role": "user", "text": "▣ " + row["question"]}] and good["images"] == 1
    assert good["responses"] == {"chosen": "[b]", "rejected": "x"} and good["error"] is None
    assert "not JSON" in bad["error"] and bad["row"].endswith(":1")


def test_what_was_written_is_told_as_json(pairs, broken, tmp_path, capsys):
    assert main(["data", "split", str(pairs), "--output", str(tmp_path / "cut"), "--json"]) == 0
    written = json.loads(capsys.readouterr().out)
    assert [Path(one["file"]).name for one in written] == ["train.parquet", "test.parquet"]
    assert sum(one["rows"] for one in written) == 24
    assert all(len(load_rows(DataConfig(source=one["file"]))) == one["rows"] for one in written)
    assert main(["data", "convert", str(broken), "--skip-bad-rows", "--output", str(tmp_path / "c"), "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert one["rows"] == 8 and len(one["skipped"]) == 2 and "image missing" in one["skipped"][1]


def test_a_recipe_shows_rows_as_its_model_reads_them(tmp_path, tiny_model, capsys):
    Image.new("RGB", (200, 100)).save(tmp_path / "a.png")
    turns = [{"role": "user", "content": "What is it?"}, {"role": "assistant", "content": "a fox", "weight": 0}]
    turns += [{"role": "user", "content": "and here?"}, {"role": "assistant", "content": "a red dog"}]
    (tmp_path / "rows.jsonl").write_text(json.dumps({"image": "a.png", "messages": turns}) + "\n")
    for family, size in (("llava", "56 × 56 pixels, 16 tokens"), ("qwen2_vl", "pixels, ")):
        (tmp_path / "r.yaml").write_text(
            f"model: {tiny_model(family)}\nobjective: sft\ndata: {{source: {tmp_path}/rows.jsonl}}\n"
        )
        command = ["data", "show", str(tmp_path / "r.yaml"), "--html", str(tmp_path / "page.html")]
        assert main([*command, "--json"]) == 0
        found = json.loads(capsys.readouterr().out)
        assert found["error"] is None and " × " in found["rendered"] and "What is it?" in found["rendered"]
        (target,) = found["targets"]
        assert "a red dog" in target and "a fox" not in target and "and here" not in target
        assert size in found["image_for_model"], found["image_for_model"]
        assert main(command) == 0
        said = capsys.readouterr().out
        assert "as read" in said and "trained" in said and "image for the model" in said
        page = (tmp_path / "page.html").read_text()
        assert "image for the model" in page and "<b>a red dog" in page


def test_the_word_diff_marks_what_one_side_has_alone():
    assert word_diff("a red cup here", "a blue cup") == (("a", ""), (" red", "only"), (" cup", ""), (" here", "only"))
    assert "".join(text for text, _ in word_diff("  two  spaces\nkept", "x")) == "  two  spaces\nkept"


def test_convert_writes_rows_that_read_the_same(pairs, tmp_path):
    assert main(["data", "convert", str(pairs), "--output", str(tmp_path / "clean")]) == 0
    before = load_rows(DataConfig(source=str(pairs)))
    after = load_rows(DataConfig(source=str(tmp_path / "clean")))
    assert after.formats == {"train.parquet": "conversational"} and len(after) == len(before) == 24
    for i in range(24):
        one, other = before.example(i), after.example(i)
        assert (one.prompt, [r.text for r in one.responses]) == (other.prompt, [r.text for r in other.responses])
        assert one.images[0].encoded() == other.images[0].encoded()  # the file's own bytes, not re-encoded
    features = datasets.Dataset.from_parquet(str(tmp_path / "clean" / "train.parquet")).features
    assert isinstance(features["images"].feature, datasets.Image)


@pytest.mark.parametrize(
    "row",
    [
        {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}], "score": 1.5},
        {"prompt": "Hi", "completion": "Hello", "label": False, "tags": ["a", {"b": None}]},
        {"image": COLOURS[0], "question": "Hi", "solution": 4},
        {"images": [COLOURS[0], COLOURS[1]], "instruction": "<image>Hi<image>", "output": ["Hello", "Go"]},
    ],
)
def test_every_kind_of_row_survives_conversion(tmp_path, row):
    from sightline.data.export import export
    from sightline.data.sources.load import rows_of

    before = rows_of([row])
    export(before.entries(), before.entries(), tmp_path / "out.parquet")
    one, other = before.example(0), load_rows(DataConfig(source=str(tmp_path / "out.parquet"))).example(0)
    assert one.prompt == other.prompt and len(one.images) == len(other.images)
    assert [(r.messages, r.label) for r in one.responses] == [(r.messages, r.label) for r in other.responses]
    for a, b in zip(one.images, other.images, strict=True):
        np.testing.assert_array_equal(np.asarray(a.open()), np.asarray(b.open()))
    assert {k: v for k, v in other.row.items() if k != "label"} == {
        k: v if not isinstance(v, list) else json.dumps(v) for k, v in one.row.items() if k not in ("label", "output")
    } | ({"output": json.dumps(row["output"])} if "output" in row else {})


def test_conversion_keeps_columns_that_are_called_like_ours(tmp_path):
    from sightline.data.export import export
    from sightline.data.sources.load import rows_of

    pairs = rows_of(
        [
            {"question": "Q", "prompt": "mine", "source_prompt": 3, "chosen": "a", "rejected": "b", "label": "cat"},
            {"question": "Q", "prompt": ["mine"], "chosen": "a", "rejected": "b", "label": True, "image_path": "a.png",
             "image": COLOURS[0], "img": {"bytes": b"", "path": None}},
        ]
    )  # fmt: skip
    export(pairs.entries(), pairs.entries(), tmp_path / "pairs.parquet")
    one, two = (load_rows(DataConfig(source=str(tmp_path / "pairs.parquet"))).example(i) for i in range(2))
    assert one.row == {"source_source_prompt": '"mine"', "source_prompt": 3, "label": '"cat"'}
    assert two.row["source_source_prompt"] == '["mine"]' and two.row["label"] == "true"
    assert two.row["image_path"] == "a.png" and "img" not in two.row

    answered = rows_of([{"question": "Q", "completion": ["a", "b"]}, {"question": "Q", "answer": "7", "completion": 7}])
    export(answered.entries(), answered.entries(), tmp_path / "answered.parquet")
    read = load_rows(DataConfig(source=str(tmp_path / "answered.parquet")))
    assert [read.example(i).row["source_completion"] for i in range(2)] == ['["a", "b"]', "7"]


def test_convert_stops_at_a_bad_row_and_leaves_nothing_after(broken, tmp_path, capsys):
    target = tmp_path / "clean"
    assert main(["data", "convert", str(broken), "--output", str(target)]) == 2
    assert "broken.jsonl, row 3" in capsys.readouterr().err
    assert not list(target.glob("*"))
    assert main(["data", "convert", str(broken), "--output", str(target), "--skip-bad-rows"]) == 0
    assert "8 rows, 2 bad rows left out" in capsys.readouterr().out
    assert main(["data", "convert", str(broken), "--output", str(target)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_split_cuts_by_image(pairs, tmp_path, capsys):
    assert main(["data", "split", str(pairs), "--output", str(tmp_path / "cut"), "--test-size", "0.25"]) == 0
    sides = [load_rows(DataConfig(source=str(tmp_path / "cut"), split=name)) for name in ("train", "test")]
    keys = [{rows.example(i).images[0].key for i in range(len(rows))} for rows in sides]
    assert len(sides[0]) + len(sides[1]) == 24 and sides[1] and not keys[0] & keys[1]
    capsys.readouterr()
    assert main(["data", "check", str(tmp_path / "cut")]) == 0
    assert "train" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("argv", "expected"),
    [
        (["chekc", "x"], "There is no `sightline data chekc`"),
        (["check"], "Say which rows"),
        (["check", "nowhere.parquet"], "no file or folder 'nowhere.parquet'"),
        (["check", "x.jsonl", "--format", "xml"], "format"),
        (["check", "x.jsonl", "--jsn"], "--json"),
        (["split", "x.jsonl"], "--output"),
        (["show", "scenes"], "Scenes are drawn"),
    ],
)
def test_mistakes_on_the_command_line_end_with_2(argv, expected, capsys):
    assert main(["data", *argv]) == 2
    assert expected in capsys.readouterr().err


def test_help_is_printed(capsys):
    assert main(["data", "--help"]) == 0
    assert all(name in capsys.readouterr().out for name in ("show",))


def test_long_texts_are_compared_in_time_that_grows_with_them():
    """Two answers of 20,000 words took 25 seconds when each word was compared with each."""
    draw = random.Random(0)
    texts = [
        " ".join(draw.choices(["the", "field", "is", "red", "and", "a", "corner", "dark", "blue"], k=20_000))
        for _ in range(2)
    ]
    texts[0] += " sunset"
    begin = time.process_time()
    marked = word_diff(*texts)
    assert time.process_time() - begin < 2
    assert "".join(text for text, _ in marked) == texts[0] and marked[-1][0].endswith(" sunset")
    middle = " ".join(texts[0].split()[:5000])
    assert word_diff(f"begin {middle} end", f"begin {middle} stop end")[-1] == (f"begin {middle} end", "")
