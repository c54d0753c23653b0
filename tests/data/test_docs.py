"""What docs/data.md shows is true: rows parse as their format, recipes load, commands run, fixes are the check's."""

import json
import re
import shlex
from pathlib import Path

import pytest
import yaml
from examples.demo_pairs import jpeg, rows
from PIL import Image

from sightline.cli.main import main
from sightline.config.data import RowFormat
from sightline.data.checks.check import check_example
from sightline.data.defects import FIXES
from sightline.data.export import export
from sightline.data.formats import parse, recognise
from sightline.data.sources.load import rows_of
from sightline.recipe import normalise, structure

PAGE = (Path(__file__).parents[2] / "docs" / "data.md").read_text(encoding="utf-8")
SECTIONS = dict(re.findall(r"^### (\w+)\n(.*?)(?=^##)", PAGE, re.MULTILINE | re.DOTALL))
RECIPES = [line for block in re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL) for line in block.splitlines()]


def test_every_format_has_a_section():
    assert {*SECTIONS, "auto"} == set(RowFormat.__args__)


@pytest.mark.parametrize("name", SECTIONS)
def test_rows_are_recognised_and_parsed_as_the_format_they_stand_under(name, tmp_path):
    for image in ("cup.jpg", "cat.jpg"):
        (tmp_path / image).write_bytes(jpeg("coffee", 64))
    (block,) = re.findall(r"```json\n(.*?)```", SECTIONS[name], re.DOTALL)
    for line in block.splitlines():
        row = json.loads(line)
        assert recognise(row) == name
        example = parse(row, source="docs", row_number=0, media_dir=tmp_path)
        check_example(example, 2 if "chosen" in row else 1)
        assert all(image.open().mode == "RGB" for image in example.images)
        assert len(example.images) == line.count(".jpg")


@pytest.mark.parametrize("line", RECIPES)
def test_recipe_lines_load(line):
    recipe = structure(normalise({"model": "embedded", **yaml.safe_load(line)}))
    assert recipe.data.is_given or "data" not in yaml.safe_load(line)


def test_the_defects_and_fixes_are_those_of_the_check():
    table = dict(re.findall(r"^\| ([a-z][\w -]+) \| (.+) \|$", PAGE.partition("## Defects")[2], re.MULTILINE))
    assert {name: fix for name, fix in table.items() if name in FIXES} == FIXES


def test_commands_run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    pairs = rows_of(rows())
    export(pairs.entries(), pairs.entries(), tmp_path / "rows.parquet")
    Image.new("RGB", (40, 40)).save(tmp_path / "a.png")
    row = {"image": "a.png", "question": "?", "chosen": "yes, it is", "rejected": "no"}
    (tmp_path / "rows.jsonl").write_text(json.dumps(row))
    commands = re.findall(r"^    (sightline data .*?)(?:   .*)?$", PAGE, re.MULTILINE)
    assert len(commands) == 4
    for command in commands:
        assert main(shlex.split(command)[1:]) == 0, capsys.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} >= {"rows.html", "clean", "cut"}
