"""YAML that is bounded before anything is built, wherever the command line reads some."""

import os
import time
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.config.plain_yaml import parse_scalar, parse_yaml, read_yaml
from sightline.errors import RecipeError

TENFOLD_LISTS = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
TENFOLD_MAPS = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{{', '.join(f'k{j}: *a{i - 1}' for j in range(10))}}}\n" for i in range(1, 9)
)
TENFOLD_MERGES = "a0: &a0 {x: 1}\n" + "".join(
    f"a{i}: &a{i} {{<<: [{', '.join([f'*a{i - 1}'] * 10)}]}}\n" for i in range(1, 9)
)
HOSTILE = {
    "lists of lists by aliases": (TENFOLD_LISTS + "model: *a8\n", "line 5: more than 20,000 values"),
    "maps of maps by aliases": (TENFOLD_MAPS + "model: *a8\n", "line 5: more than 20,000 values"),
    "maps merged into maps": (TENFOLD_MERGES + "model: *a8\n", "line 5: more than 20,000 values"),
    "a chain of aliases": (
        "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 999)),
        "line 23: more than 24 levels",
    ),
    "a group inside itself": ("model: &a {name: *a}\n", "line 1: an alias of what it is itself a part of"),
    "a document inside itself": ("&a\nmodel: *a\n", "line 2: an alias of what it is itself a part of"),
    "a merge of itself": ("lora: &a\n  <<: *a\n", "line 2: an alias of what it is itself a part of"),
    "deep lists": ("model: " + "[" * 50_000 + "]" * 50_000, "line 1: more than 24 levels"),
    "deep maps": ("model: " + "{a: " * 5000 + "1" + "}" * 5000, "line 1: more than 24 levels"),
    "deep blocks": ("\n".join(" " * i + "a:" for i in range(700)), "line 24: more than 24 levels"),
    "deep keys": ("? " * 5000, "more than 24 levels"),
    "many values": ("a: [" + "1, " * 100_000 + "]", "more than 20,000 values"),
    "a large file": ("a: " + "x" * 600_000, "it has 600,003 bytes, and a recipe has at most 524,288"),
    "a number that is none": ("seed: !!int x\n", "the tag `!!int`: values are plain here"),
    "code": ("model: !!python/object/apply:os.system ['true']\n", "`!!python/object/apply:os.system`"),
    "UTF-16": ("\ufeffseed: 1\n".encode("utf-16-le"), "Save it as UTF-8 text"),
    "a key of lists": ("{[1]: 2}\n", "unhashable key"),
}


@pytest.mark.parametrize("name", HOSTILE)
@pytest.mark.parametrize("command", ["train", "plan", "recipe from-trl", "recipe from-llamafactory"])
def test_hostile_yaml_is_refused_with_its_line_by_every_command_that_reads_some(name, command, tmp_path, capsys):
    text, said = HOSTILE[name]
    path = tmp_path / "recipe.yaml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.process_time()
    assert main([*command.split(), str(path)]) == 2
    assert time.process_time() - started < 5
    message = capsys.readouterr().err
    assert said in message and len(message) < 600 and message.count("\n") == 1


@pytest.mark.parametrize("path", ["/dev/zero", "/", "nowhere.yaml", "x" * 5000 + ".yaml", "a\0b.yaml", "fifo"])
def test_what_is_no_regular_file_is_not_waited_for(path, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with pytest.raises(RecipeError, match="There is no recipe"):
        read_yaml(Path(path))


def test_a_key_given_twice_is_named_inside_lists_too(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(
        "data:\n  mixture:\n    - source: a.jsonl\n      weight: 1\n    - source: b.jsonl\n      source: c\n"
    )
    with pytest.raises(
        RecipeError, match=r"line 6: `data\.mixture\.1\.source` is given a second time \(first on line 5"
    ):
        read_yaml(path)


def test_text_that_looks_like_a_date_a_time_or_another_number_stays_as_it_is_written():
    written = "{a: 2020-01-01, b: 12:30, c: 1.10, d: 007, e: 5e-6, f: 0x10, g: 1_000}"
    assert parse_yaml(written) == {
        "a": "2020-01-01", "b": "12:30", "c": "1.10", "d": "007", "e": "5e-6", "f": "0x10", "g": "1_000",
    }  # fmt: skip
    assert parse_yaml("{a: 12, b: 0.25, c: true, d: null, e: -3, f: text}") == {
        "a": 12, "b": 0.25, "c": True, "d": None, "e": -3, "f": "text",
    }  # fmt: skip


@pytest.mark.parametrize(
    ("text", "value"),
    [("384", 384), ("5e-6", 5e-6), (".5", 0.5), ("007", 7), ("false", False), ("Score: 5", "Score: 5"), ("[1", "[1")],
)
def test_a_word_of_a_free_group_is_read_as_the_value_that_it_looks_like(text, value):
    assert parse_scalar(text) == value


def test_aliases_and_merges_of_a_reasonable_size_are_read(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text("lora: &small {r: 4, alpha: 8}\nother: {<<: *small, r: 8}\n")
    assert read_yaml(path)[0] == {"lora": {"r": 4, "alpha": 8}, "other": {"r": 8, "alpha": 8}}
