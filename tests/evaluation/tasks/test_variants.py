"""Variants of tasks from the command line: spaCy's similarity for AMBER, captions and a file of synonyms for CHAIR."""

import importlib
import json
import types

import pytest
from tests.evaluation import toy

from sightline.cli.main import main
from sightline.errors import RecipeError
from sightline.evaluation.record import record
from sightline.evaluation.table import group_tables, table
from sightline.evaluation.tasks.amber import spacy_similar
from sightline.evaluation.tasks.captions import chair_task


class Word:
    """What spaCy makes of a word; near ones are 0.9 similar."""

    def __init__(self, text):
        self.text = text

    def similarity(self, other):
        return 0.9 if {self.text, other.text} == {"couch", "sofa"} else 0.8


def test_spacy_is_used_where_it_is_installed(monkeypatch):
    loaded = []
    monkeypatch.setattr(
        "sightline.evaluation.tasks.amber.import_module",
        lambda name: types.SimpleNamespace(load=lambda model: loaded.append((name, model)) or Word),
    )
    similar = spacy_similar()
    assert loaded == [("spacy", "en_core_web_lg")]
    assert similar("couch", "sofa") and not similar("couch", "lamp")  # 0.8 is not more than 0.8


def test_without_spacy_or_its_model_the_flag_is_refused_with_what_to_install(monkeypatch, capsys, tmp_path):
    def no_model(model):
        raise OSError("[E050] Can't find model")

    for found, complaint in ((None, "spaCy is not installed"), (no_model, "cannot be loaded")):

        def import_module(name, found=found):
            if found is None:
                raise ModuleNotFoundError(name)
            return types.SimpleNamespace(load=found)

        monkeypatch.setattr("sightline.evaluation.tasks.amber.import_module", import_module)
        with pytest.raises(RecipeError, match=complaint):
            spacy_similar()
    assert main(["evaluate", "m", "--task", "amber-generative", "--data", str(tmp_path), "--spacy"]) == 2
    assert "python -m spacy download en_core_web_lg" in capsys.readouterr().err
    assert main(["evaluate", "m", "--task", "scenes", "--spacy"]) == 2
    assert "--spacy is for task amber" in capsys.readouterr().err
    assert importlib.import_module("json") is json


def test_chair_takes_what_people_captioned_for_what_is_there(tmp_path):
    (tmp_path / "image").mkdir()
    toy.image(0).save(tmp_path / "image" / "a.png")
    row = {"id": 1, "image": "a.png", "captions": ["A puppy on a couch.", "The dog sleeps on the sofa."]}
    (tmp_path / "captions.jsonl").write_text(json.dumps(row) + "\n")
    synonyms = tmp_path / "names.txt"
    synonyms.write_text("dog, puppy\ncouch, sofa\ncat, kitten\n")
    task = chair_task(tmp_path, synonyms)
    assert task.items[0].truth["present"] == ["dog", "couch"]
    scores = record(task, task.items[0], "A dog and a kitten.").scores
    assert tuple(scores["chair"]) == (1, 2) and tuple(scores["cover"]) == (1, 2)


def test_tables_fit_eighty_columns(capsys):
    from rich.console import Console

    from sightline.evaluation.summary import summarise

    task = toy.task(num_images=40)
    summary = summarise(task, [record(task, item, "Yes") for item in task.items])
    console = Console(width=80)
    console.print(table({"llava-v1.6-mistral-7b-hf": summary}))
    (groups,) = group_tables(summary)
    console.print(groups)
    printed = capsys.readouterr().out
    assert "…" not in printed
    for heading in ("Accuracy", "Recall", "F1", "always “No”", "odd"):
        assert heading in printed
    assert all(line.rstrip().count("]") <= 1 for line in printed.splitlines())
