"""The commands of docs/memory-planner.md run, in the order in which they stand there."""

import re
import shlex
from pathlib import Path

import pytest

from sightline.cli.main import main
from sightline.config import LoraConfig, ModelConfig

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "memory-planner.md").read_text(encoding="utf-8")
COMMANDS = re.findall(r"^    (sightline .*?)(?:   .*)?$", PAGE, re.MULTILINE)


def test_commands_run_as_they_stand(tmp_path, monkeypatch, capsys):
    (tmp_path / "recipes").symlink_to(ROOT / "recipes")
    monkeypatch.chdir(tmp_path)
    assert len(COMMANDS) == 7
    said = {}
    for command in COMMANDS:
        # what fifty steps come to is tests/training/test_quantised_run.py; steps of 32 pairs on 2,500 images are slow
        words = shlex.split(command.replace("--max-steps 50", "--max-steps 2"))[1:]
        if words[0] == "train":
            words += ["--data.scenes.images", "60", "--per-device-train-batch-size", "4"]
        assert main(words) == 0, capsys.readouterr().err
        said[command] = capsys.readouterr().out
    made = {path.name for path in tmp_path.rglob("*")}
    assert {"fits.yaml", "nf4", "selective", "exported", "exported-float32"} <= made
    plan = said["sightline plan recipes/idefics2_8b_dpo.yaml --gpu 80GB"]
    for figure in ("8,402,768,112", "160.0 GB", "168.1 GB", "32.3 GB", "33.9 GB", "55,348,736", "41,943,040"):
        assert figure in plan
    for figure in re.findall(r"(\d+\.\d GB) for that recipe", PAGE):
        assert re.search(rf"SIGHTLINE, this recipe +{figure}", plan)
    (trains,) = re.findall(r"`(Trains .*?)`", PAGE)
    assert all(trains in " ".join(text.split()) for command, text in said.items() if "train recipes" in command)


@pytest.mark.parametrize("name", ["model", "lora"])
def test_the_options_in_the_tables_are_the_recipes(name):
    (table,) = re.findall(rf"^\| `{name}\.` \|.*?\n\n", PAGE, re.MULTILINE | re.DOTALL)
    fields = {"model": ModelConfig, "lora": LoraConfig}[name].__dataclass_fields__
    cells = re.findall(r"^\| (`.*?) \|", table, re.MULTILINE)[1:]
    named = {word.partition(":")[0] for cell in cells for word in re.findall(r"`([^`]+)`", cell)}
    assert named and named <= set(fields)
