"""A format or a column that no row has is said when the rows are opened."""

import json
from pathlib import Path
from typing import Any

import pytest

from sightline.cli.main import main
from sightline.config.data import DataConfig
from sightline.data.sources.load import load_rows
from sightline.errors import DataError

PAIR = {"question": "What?", "chosen": "A cat.", "rejected": "A dog."}
VQA = {"question": "What?", "answer": "A cat."}
SHAREGPT = {"conversations": [{"from": "human", "value": "What?"}, {"from": "gpt", "value": "A cat."}]}


def write(folder: Path, rows: list[dict[str, Any]], name: str = "rows.jsonl") -> str:
    path = folder / name
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return str(path)


@pytest.mark.parametrize(
    ("rows", "format", "looks"),
    [
        ([PAIR] * 3, "kto", "fits none of the first 3 rows of rows.jsonl, which are in the format columns"),
        ([PAIR] * 3, "sharegpt", "in the format columns"),
        ([SHAREGPT] * 3, "columns", "in the format sharegpt"),
        ([{"x": 1}] * 2, "conversational", "in no known format"),
    ],
)
def test_a_format_that_no_row_has_is_an_error_at_load(rows, format, looks, tmp_path):
    with pytest.raises(DataError) as error:
        load_rows(DataConfig(source=write(tmp_path, rows), format=format))
    assert f"data.format: {format!r}" in str(error.value) and looks in str(error.value)


@pytest.mark.parametrize(
    ("rows", "format"),
    [
        ([PAIR], "columns"),
        ([SHAREGPT], "sharegpt"),
        ([PAIR, SHAREGPT], "sharegpt"),
        ([{"question": "What?"}], "columns"),
    ],
)
def test_a_format_that_some_row_has_is_read(rows, format, tmp_path):
    assert len(load_rows(DataConfig(source=write(tmp_path, rows), format=format))) == len(rows)


def test_a_column_that_no_row_has_is_an_error_at_load_and_one_that_comes_late_is_none(tmp_path):
    path = write(tmp_path, [{"prompt_en": "What?", "answer": "A cat."}] * 100 + [{**VQA, "shown": "x.png"}])
    with pytest.raises(DataError, match=r"`question: promt_en` names a column .* Did you mean `prompt_en`"):
        load_rows(DataConfig(source=path, columns={"question": "promt_en"}))
    assert len(load_rows(DataConfig(source=path, columns={"question": "prompt_en", "images": "shown"}))) == 101


def test_data_check_with_a_recipe_drops_of_other_rows_what_training_drops(tmp_path, capsys):
    mine = write(tmp_path, [SHAREGPT] * 3)
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "model: embedded\nobjective: sft\ndata: {source: owner/rows, format: columns, split: 'train[:1%]'}\n"
    )
    assert main(["data", "check", mine, "--recipe", str(recipe), "--json"]) in (0, 1)
    assert json.loads(capsys.readouterr().out)
