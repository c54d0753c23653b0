"""Tasks from files of one's own: what is asked, what is right, and what is refused."""

import json
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluation.record import record
from sightline.evaluation.summary import summarise
from sightline.evaluation.tasks import build


def write(folder: Path, name: str, rows: list[dict]) -> Path:
    (folder / name).write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def accuracy(name: str, data: Path, answers: list[str]) -> float:
    (task,) = build(name, data)
    records = [record(task, item, text) for item, text in zip(task.items, answers, strict=True)]
    return summarise(task, records).overall("accuracy").value


def test_the_same_answers_by_three_rules(tmp_path: Path) -> None:
    rows = [{"id": i, "image": "a.png", "question": "How many?", "answers": ["20"]} for i in range(4)]
    data = write(tmp_path, "questions.jsonl", rows)
    answers = ["20", "twenty", "20.5", "200"]
    assert accuracy("vqa", data, answers) == 25.0
    assert accuracy("chartqa", data, answers) == 50.0
    # 20 of 20; 2 of 4 characters at 20.5; 2 of 3 at 200
    assert accuracy("anls", data, answers) == pytest.approx(100 * (1 + 0 + 0.5 + 2 / 3) / 4)


def test_multiple_choice_is_asked_with_letters_and_taken_by_letter_or_words(tmp_path: Path) -> None:
    row = {"image": "a.png", "question": "Which?", "choices": ["a cat", "a dog"]}
    data = write(
        tmp_path, "questions.jsonl", [{**row, "answer": "B"}, {**row, "answer": "a dog"}, {**row, "answer": "A"}]
    )
    (task,) = build("choice", data)
    assert task.items[0].question == "Which?\nA. a cat\nB. a dog"
    assert task.asked(task.items[0]).endswith("directly.")
    assert accuracy("choice", data, ["(B)", "A dog.", "The answer is B"]) == pytest.approx(100 * 2 / 3)


def test_mathvista_reads_its_own_file_by_rule(tmp_path: Path) -> None:
    common = {"image": "images/1.jpg", "question": "How much?", "question_type": "free_form"}
    problems = {
        "1": {**common, "answer": "1.3", "answer_type": "float", "precision": 1.0, "choices": None},
        "2": {**common, "answer": "14", "answer_type": "integer", "precision": None, "choices": None},
        "3": {
            **common,
            "answer": "yes",
            "answer_type": "text",
            "choices": ["no", "yes"],
            "question_type": "multi_choice",
        },
    }
    (tmp_path / "testmini.json").write_text(json.dumps(problems))
    (task,) = build("mathvista", tmp_path)
    assert "rule-based" in task.title
    assert accuracy("mathvista", tmp_path, ["about 1.26", "It is 14.", "(B) yes"]) == 100.0
    assert accuracy("mathvista", tmp_path, ["1.2", "15", "A"]) == 0.0


def test_captions_are_scored_by_a_file_of_synonyms(tmp_path: Path) -> None:
    rows = [{"id": 1, "image": "a.png", "objects": ["puppy", "tree"], "companions": ["cat"]}]
    write(tmp_path, "captions.jsonl", rows)
    (tmp_path / "synonyms.txt").write_text("dog, puppy\ncat, kitten\ntree\n")
    (task,) = build("chair", tmp_path)
    said = record(task, task.items[0], "A dog and a kitten.")
    scores = {name: value.value for name, value in summarise(task, [said]).figures["all"].items()}
    assert (scores["chair"], scores["cover"], scores["hal"], scores["cog"]) == (50.0, 50.0, 100.0, 100.0)
    assert task.marks(task.items[0], "A dog and a kitten, Kittens.") == ("kitten", "Kittens")


def test_captions_count_plurals_of_every_kind_once_each(tmp_path: Path) -> None:
    rows = [
        {"id": 1, "image": "a.png", "objects": ["foxes", "women"], "companions": "wolf, geese"},
        {"id": 2, "image": "b.png", "objects": ["llama"]},
    ]
    write(tmp_path, "captions.jsonl", rows)
    (tmp_path / "synonyms.txt").write_text("fox\nperson, woman, lady\nwolf\ngoose\nknife\n")
    (task,) = build("chair", tmp_path)
    said = ["Two ladies, foxes, wolves and knives.", "Two llamas."]
    found = [record(task, item, text).scores for item, text in zip(task.items, said, strict=True)]
    assert [tuple(found[0][name]) for name in ("chair", "cover", "cog")] == [(2, 4), (2, 2), (1, 2)]
    # a row's own object can be named although synonyms.txt lacks it
    assert [tuple(found[1][name]) for name in ("chair", "cover")] == [(0, 1), (1, 1)]


def test_objects_that_are_no_names_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "captions.jsonl", [{"id": 1, "image": "a.png", "objects": [{"name": "fox"}]}])
    (tmp_path / "synonyms.txt").write_text("fox\n")
    with pytest.raises(DataError, match=r"row 1: `objects` is .* a list of names is expected"):
        build("chair", tmp_path)


@pytest.mark.parametrize(
    ("name", "row", "complaint"),
    [
        ("vqa", {"image": "a.png", "answer": "x"}, "row 1 has no `question`"),
        (
            "choice",
            {"image": "a.png", "question": "?", "answer": "C", "choices": ["a", "b"]},
            "neither a letter nor one",
        ),
        ("vqa", {"image": "../a.png", "question": "?", "answer": "x"}, "leaves the media folder"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(name: str, row: dict, complaint: str, tmp_path: Path) -> None:
    data = write(tmp_path, "questions.jsonl", [row])
    with pytest.raises(DataError, match=complaint):
        build(name, data)
