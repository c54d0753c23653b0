"""Export to lmms-eval: files that its loaders read, and the samples that it logs are scored here."""

import importlib.util
import json
from pathlib import Path
from typing import Any

import yaml
from tests.evaluation import toy

from sightline.cli.main import main


class Loader(yaml.SafeLoader):
    """Reads `!function` as its text."""


def _text(loader: Loader, node: Any) -> Any:
    return loader.construct_scalar(node)


Loader.add_constructor("!function", _text)


def test_tasks_are_exported_and_logged_samples_are_scored(tmp_path, capsys):
    data, out = toy.write_pope(tmp_path / "pope"), tmp_path / "it's: a #folder"
    command = ["evaluate", "--task", "pope", "--data", str(data)]
    assert main([*command, "--export", "lmms-eval", "--output", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "--tasks sightline_pope_random,sightline_pope_popular,sightline_pope_adversarial" in printed
    tree = yaml.load((out / "sightline_pope_random.yaml").read_text(), Loader)
    assert tree["task"] == "sightline_pope_random" and tree["doc_to_text"] == "sightline_tasks.question"
    written = Path(tree["dataset_kwargs"]["data_files"]["test"]).read_text(encoding="utf-8")
    rows = [json.loads(line) for line in written.splitlines()]
    assert [row["target"] for row in rows] == ["yes", "no", "yes", "no"]
    spec = importlib.util.spec_from_file_location("sightline_tasks", out / "sightline_tasks.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert module.question(rows[0]) == "Is there a dog 0?" and module.answered(rows[0], ["Yes"]) == {"answered": 1.0}
    (image,) = module.images(rows[2])
    assert image.tobytes() == toy.image(1).tobytes()
    assert len(list((out / "images").iterdir())) == 2
    samples = tmp_path / "20260101_000000_samples_sightline_pope_random.jsonl"
    # as lmms-eval 0.7.3 writes them
    logged = [
        {"doc_id": i, "target": row["target"], "filtered_resps": "Yes", "answered": 1.0, "input": row["question"]}
        for i, row in enumerate(rows)
    ]
    samples.write_text("".join(json.dumps(line) + "\n" for line in logged))
    assert main([*command, "--responses", str(samples), "--json"]) == 0
    figures = json.loads(capsys.readouterr().out)
    assert figures.keys() == {"pope-random"} and figures["pope-random"]["figures"]["all"]["accuracy"]["value"] == 50.0
    assert main([*command, "--responses", str(samples), "--prompt", "Look. {question}"]) == 2
    assert "which is not its question here" in capsys.readouterr().err
    renamed = samples.rename(tmp_path / "mine.jsonl")
    assert main([*command, "--responses", str(renamed)]) == 2
    assert "its name ends in none of the tasks" in capsys.readouterr().err


def test_drawn_images_are_written_and_an_occupied_folder_is_refused(tmp_path, capsys):
    command = [
        "evaluate",
        "--task",
        "scenes",
        "--limit",
        "3",
        "--export",
        "lmms-eval",
        "--output",
        str(tmp_path / "out"),
    ]
    assert main(command) == 0
    assert (tmp_path / "out" / "images" / "0.png").is_file()
    assert main(command) == 2
    assert "holds something already" in capsys.readouterr().err
    assert main([*command, "--responses", "x.json"]) == 2
    assert "asks no model" in capsys.readouterr().err
