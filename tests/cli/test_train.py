"""`sightline train`: where `--rehearse` finds its folder, and what programs read."""

import json

import pytest

from sightline.cli.main import main
from sightline.cli.train import take_rehearse


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["R.yaml"], (False, None, ["R.yaml"])),
        (["R.yaml", "--rehearse"], (True, None, ["R.yaml"])),
        (["R.yaml", "--rehearse", "out", "--seed", "1"], (True, "out", ["R.yaml", "--seed", "1"])),
        (["R.yaml", "--rehearse", "--seed", "1"], (True, None, ["R.yaml", "--seed", "1"])),
        (["--rehearse", "R.yaml", "--seed", "1"], (True, None, ["R.yaml", "--seed", "1"])),
    ],
)
def test_the_rehearsal_flag_is_taken_out(words, expected):
    assert take_rehearse(words) == expected


def test_a_folder_that_holds_something_is_not_written_to(tmp_path, capsys):
    (tmp_path / "mine.txt").write_text("keep")
    assert main(["train", "--model", "embedded", "--data", "scenes", "--rehearse", str(tmp_path)]) == 2
    assert "something in it already" in capsys.readouterr().err and (tmp_path / "mine.txt").read_text() == "keep"


def test_a_run_prints_json_for_programs_and_what_does_not_hold_for_other_rows_elsewhere(tmp_path, capsys):
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text("data: {source: mine.jsonl, format: sharegpt, limit: 9, eval_source: held.jsonl, columns: {}}\n")
    words = [str(recipe), "--model", "embedded", "--data", "scenes", "--data.limit", "4", "--objective.type", "sft"]
    words += ["--lora"]
    words += ["--max-steps", "1", "--dataloader-num-workers", "0", "--output-dir", str(tmp_path / "run"), "--use-cpu"]
    assert main(["train", *words, "--json"]) == 0
    printed = capsys.readouterr()
    said = "".join(printed.err.split())  # paths are wrapped at any letter
    assert f"namesotherrowsthan{recipe}:itsdata.format,data.eval_sourcedonothold." in said
    told = json.loads(printed.out)
    assert told["folder"] == str(tmp_path / "run") and told["metrics"]["loss"] > 0


def test_a_rehearsal_names_no_folder_that_it_deletes(capsys, monkeypatch):
    words = ["--model", "embedded", "--data", "scenes", "--objective.type", "sft", "--lora", "--use-cpu"]
    assert main(["train", *words, "--dataloader-num-workers", "0", "--rehearse", "--json"]) == 0
    printed = capsys.readouterr()
    assert json.loads(printed.out)["folder"] is None
    assert "Rehearsed in" in printed.err and "Saved to" not in printed.err and "sightline-" not in printed.err
