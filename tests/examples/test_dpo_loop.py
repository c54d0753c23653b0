"""The flat loop gives the trainer's curve."""

import json
import runpy
import sys
from pathlib import Path

import pytest
from datasets import Dataset, Features, Image, Value

from sightline.errors import DataError
from tests.training.runs import curve, pairs, run

SCRIPT = Path(__file__).parents[2] / "examples" / "dpo_loop.py"


def test_the_loop_and_the_trainer_have_one_curve(tmp_path, tiny_model, monkeypatch):
    """One step sees all eight rows, so that neither's order of rows matters."""
    text = Value("string")
    features = Features(image=Image(), question=text, chosen=text, rejected=text)
    Dataset.from_list(pairs(8), features=features).to_parquet(tmp_path / "rows.parquet")
    arguments = ["--model", str(tiny_model("llava")), "--data", str(tmp_path / "rows.parquet"), "--steps", "4"]
    arguments += ["--learning-rate", "1e-3", "--rank", "4", "--output-dir", str(tmp_path / "loop")]
    monkeypatch.setattr(sys, "argv", ["dpo_loop.py", *arguments])
    runpy.run_path(str(SCRIPT), run_name="__main__")
    run(tmp_path / "run", tiny_model("llava"), pairs(8), per_device_train_batch_size=8, num_train_epochs=4)
    for name in ("loss", "grad_norm", "rewards/margins"):
        assert curve(tmp_path / "loop", name) == pytest.approx(curve(tmp_path / "run", name), rel=1e-4, abs=1e-5)
    assert abs(curve(tmp_path / "loop")[3] - curve(tmp_path / "loop")[0]) > 1e-3


def test_a_bad_row_ends_the_loop_with_its_message(tmp_path, tiny_model, monkeypatch):
    rows = [{"question": "What?", "chosen": "red", "rejected": "blue"}, {"question": "What?", "chosen": "red"}]
    (tmp_path / "rows.jsonl").write_text("\n".join(map(json.dumps, rows)))
    arguments = ["--model", str(tiny_model("llava")), "--data", str(tmp_path / "rows.jsonl"), "--steps", "1"]
    monkeypatch.setattr(sys, "argv", ["dpo_loop.py", *arguments, "--output-dir", str(tmp_path / "loop")])
    with pytest.raises(DataError, match="rejected"):
        runpy.run_path(str(SCRIPT), run_name="__main__")


def test_the_loop_stays_short():
    assert len(SCRIPT.read_text().splitlines()) < 250
