"""The journey, shortened: every file that it promises, the figures' form, and a folder that is not overwritten."""

import contextlib
import io
import json

import pytest

from sightline.cli.main import main

DRAWS = True


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("journey") / "quickstart"
    command = ["quickstart", "--output-dir", str(folder), "--num-scenes", "24", "--max-steps", "4", "--json"]
    with contextlib.redirect_stdout(io.StringIO()) as said:
        assert main(command) == 0
    assert json.loads(said.getvalue()) == json.loads((folder / "metrics.json").read_text())
    return folder


def test_the_journey_leaves_pairs_runs_answers_figures_and_a_report(folder):
    assert (folder / "pairs" / "train.parquet").is_file()
    for name in ("dpo", "control", "too_eager"):
        assert (folder / name / "recipe.yaml").is_file() and (folder / name / "metrics.jsonl").is_file()
        assert (folder / "answers" / f"{name}.jsonl").is_file()
    page = (folder / "report.html").read_text()
    assert "A run to beware of" in page and "always" in page
    assert "http://" not in page.replace("http://www.w3.org", "") and "<script src" not in page


def test_every_figure_has_its_interval_in_percent(folder):
    figures = json.loads((folder / "metrics.json").read_text())
    assert {"base", "dpo", "control"} <= figures.keys()
    for model in figures.values():
        assert set(model) == {"chair", "cover", "hal", "cog", "accuracy", "f1"}
        for score in model.values():
            assert 0 <= score["low"] <= score["value"] <= score["high"] <= 100


def test_the_embedded_model_hallucinates_and_covers_before_it_is_aligned(folder):
    base = json.loads((folder / "metrics.json").read_text())["base"]
    assert base["hal"]["high"] > 40 and base["cover"]["value"] > 90


def test_an_earlier_journey_is_not_overwritten_unasked(folder, capsys):
    assert main(["quickstart", "--output-dir", str(folder)]) == 2
    assert "--overwrite-output-dir" in capsys.readouterr().err


def test_a_folder_of_somebody_elses_is_never_emptied(tmp_path, capsys):
    (tmp_path / "thesis.txt").write_text("years of work")
    assert main(["quickstart", "--output-dir", str(tmp_path), "--overwrite-output-dir"]) == 2
    assert (tmp_path / "thesis.txt").exists()
