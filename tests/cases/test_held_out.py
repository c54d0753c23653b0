"""Rows that cannot be held out as the recipe asks are refused before training, and files are all written or none."""

import json
from pathlib import Path

import pytest
from PIL import Image
from rich.console import Console

from sightline.cli.main import main
from sightline.config.data import DataConfig
from sightline.data.holdout import split_by_image
from sightline.data.sources.load import load_rows
from sightline.errors import DataError
from sightline.recipe import structure
from sightline.training.run import train
from tests.cases.cases import COLOURS, paint


def pair(images: list[str], number: int = 0) -> dict:
    return {"images": images, "question": f"Which, {number}?", "chosen": "It is red.", "rejected": "It is striped."}


def write(folder: Path, rows: list[dict]) -> str:
    file = folder / "rows.jsonl"
    file.write_text("\n".join(map(json.dumps, rows)))
    return str(file)


@pytest.mark.parametrize(
    "rows",
    [
        [pair(["blue.png", name], i) for i, name in enumerate(("red.png", "green.png"))],
        [pair(["red.png"], i) for i in range(5)],
        [pair(["red.png", "green.png"]), pair(["green.png", "blue.png"], 1)],
    ],
    ids=["a legend that all show", "one image", "a chain"],
)
def test_rows_that_images_join_cannot_be_cut(tmp_path, rows, capsys):
    source = write(paint(tmp_path), rows)
    with pytest.raises(DataError, match=f"images join all {len(rows)} rows"):
        split_by_image(load_rows(DataConfig(source=source)), 0.2, seed=0)
    output = tmp_path / "cut"
    assert main(["data", "split", source, "--output", str(output)]) == 2
    assert "nothing can be held out" in capsys.readouterr().err and not list(tmp_path.glob("cut/*"))


def test_rows_that_cannot_be_read_cannot_be_held_out(tmp_path):
    source = write(tmp_path, [{"width": 3}, {"width": 4}])
    with pytest.raises(DataError, match="no row can be read"):
        split_by_image(load_rows(DataConfig(source=source)), 0.5, seed=0)


def test_a_run_whose_held_out_rows_are_bad_does_not_begin(tmp_path, tiny_model):
    paint(tmp_path)
    rows = [pair(["red.png"], i) for i in range(3)]
    held_out = [pair(["none.png"], i) for i in range(3)]
    data = {"media_dir": str(tmp_path), "on_bad_row": "skip"}
    recipe = structure(
        {"model": {"name": str(tiny_model("llava"))}, "objective": {"type": "dpo"}, "data": data, "max_steps": 1,
         "output_dir": str(tmp_path / "run")}
    )  # fmt: skip
    with pytest.raises(DataError, match=r"No held-out row can be evaluated on.*no file"):
        train(recipe, data=rows, eval_data=held_out, console=Console(quiet=True))


def test_a_conversion_that_fails_in_its_second_split_leaves_nothing(tmp_path, capsys):
    source = paint(tmp_path) / "rows"
    source.mkdir()
    for name in COLOURS:
        Image.open(tmp_path / f"{name}.png").save(source / f"{name}.png")
    (source / "train.jsonl").write_text(json.dumps(pair(["red.png"])))
    (source / "test.jsonl").write_text(json.dumps(pair(["none.png"])))
    assert main(["data", "convert", str(source), "--output", str(tmp_path / "clean")]) == 2
    assert "no file" in capsys.readouterr().err and not list((tmp_path / "clean").glob("*"))
