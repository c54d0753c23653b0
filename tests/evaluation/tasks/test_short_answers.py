"""Tasks from files of one's own: what is asked, what is right, and what is refused."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from sightline.errors import DataError
from sightline.evaluation.record import record
from sightline.evaluation.summary import summarise
from sightline.evaluation.tasks.registry import build

ASKED = {"image": "a.png", "question": "Which?"}


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
    assert accuracy("choice", data, ["The answer is B, not A.", "<think>A?</think> B", "A cat sits."]) == 100.0


def test_choices_come_by_letter_and_answers_in_brackets(tmp_path: Path) -> None:
    rows = [
        {**ASKED, "answer": "(B)", "choices": ["B", "A"]},
        {**ASKED, "answer": ["A", "C"], "choices": {"A": "one", "B": "two", "C": "three"}},
        {**ASKED, "answer": 7, "choices": [5, 7]},
    ]
    (task,) = build("choice", write(tmp_path, "questions.jsonl", rows))
    assert [item.truth["answers"] for item in task.items] == [["A"], ["one", "three"], ["7"]]
    assert accuracy("choice", tmp_path, ["B", "C", "B"]) == 100.0
    assert accuracy("choice", tmp_path, ["A", "B", "5"]) == 0.0


def test_answers_are_taken_as_vqav2_writes_them_and_as_numbers(tmp_path: Path) -> None:
    people = [{"answer": "blue" if i < 8 else "grey", "answer_id": i, "answer_confidence": "yes"} for i in range(10)]
    rows = [{**ASKED, "answers": people}, {**ASKED, "answer": 3}, {**ASKED, "answer": True}]
    data = write(tmp_path, "questions.jsonl", rows)
    for name in ("vqa", "anls", "chartqa"):
        assert accuracy(name, data, ["blue", "3", "yes"]) == 100.0


def test_short_answers_are_taken_out_of_reasoning_tags_and_boxes(tmp_path: Path) -> None:
    data = write(tmp_path, "questions.jsonl", [{**ASKED, "answer": "red"}])
    for name in ("vqa", "anls", "chartqa"):
        assert accuracy(name, data, ["<think>blue?</think><answer>Red</answer>"]) == 100.0
        assert accuracy(name, data, [r"\boxed{red}"]) == 100.0


def test_a_few_answers_are_accepted_ones_and_the_task_says_so(tmp_path: Path) -> None:
    rows = [{**ASKED, "answers": ["sofa", "couch", "settee"][:n]} for n in (1, 2, 3)]
    rows.append({**ASKED, "answers": ["sofa"] * 5 + ["couch"]})
    data = write(tmp_path, "questions.jsonl", rows)
    # one of six: left out in one of six draws, one of three needed in the other five
    assert accuracy("vqa", data, ["sofa", "couch", "settee", "couch"]) == pytest.approx(100 * (3 + 5 / 18) / 4)
    (task,) = build("vqa", data)
    assert task.notes == ("3 of 4 questions have fewer than 4 answers: any of them is right.",)


def test_questions_that_share_an_id_are_each_asked_and_scored(tmp_path: Path) -> None:
    rows = [{"id": "street.png", "image": "a.png", "question": f"{word}?", "answer": word} for word in ("Which", "Who")]
    data = write(tmp_path, "questions.jsonl", rows)
    (task,) = build("vqa", data)
    assert [item.id for item in task.items] == ["street.png", "street.png#2"]
    assert accuracy("vqa", data, ["Who", "Who"]) == 50.0
    assert "Ids repeat in the file: the second question of 'street.png' is kept as 'street.png#2'" in task.notes[0]


def test_a_task_of_one_s_own_refuses_ids_that_repeat(tmp_path: Path) -> None:
    (task,) = build("vqa", write(tmp_path, "questions.jsonl", [{**ASKED, "answer": "x"}, {**ASKED, "answer": "y"}]))
    with pytest.raises(DataError, match=r"Task vqa: two questions have the id '1': 'Which\?' and 'Which\?'"):
        replace(task, items=[task.items[0], replace(task.items[1], id="1")])


@pytest.mark.parametrize("labels", [("Yes", "No"), ("YES", " no "), (True, False), (1, 0), ("true", "false")])
def test_pope_takes_labels_in_any_common_form(labels: tuple, tmp_path: Path) -> None:
    rows = [{"question_id": i, "image": "a.png", "text": "?", "label": label} for i, label in enumerate(labels)]
    data = write(tmp_path, "coco_pope_random.json", rows)
    assert accuracy("pope-random", data, ["Yes", "No"]) == 100.0
    assert accuracy("pope-random", data, ["No", "Yes"]) == 0.0


def test_pope_refuses_a_label_that_is_neither(tmp_path: Path) -> None:
    data = write(
        tmp_path, "coco_pope_random.json", [{"question_id": 1, "image": "a.png", "text": "?", "label": "maybe"}]
    )
    with pytest.raises(DataError, match="row 1: the label is 'maybe'; yes or no is expected"):
        build("pope-random", data)


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
    assert accuracy("mathvista", tmp_path, [r"\boxed{\frac{13}{10}}", "<answer>14 cm^2</answer>", "yes"]) == 100.0
    assert accuracy("mathvista", tmp_path, [r"\frac{1.3}{2}", r"\sqrt{14}", "not yes"]) == 0.0


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
        (
            "choice",
            {**ASKED, "answer": "B", "choices": ["B", "A"]},
            r"the letter of 'A' and the text of another .* \(A\)",
        ),
        ("choice", {**ASKED, "answer": "A", "choices": "red, blue"}, "a list of texts is expected"),
        ("choice", {**ASKED, "answer": "A", "choices": ["red", "red"]}, "two of the choices are the same"),
        ("vqa", {**ASKED, "answers": []}, r"the answers are \[\]; a text is expected"),
        ("anls", {**ASKED, "answers": [{"text": "red"}]}, "objects with the text under `answer`"),
        ("vqa", {"image": "../a.png", "question": "?", "answer": "x"}, "leaves the media folder"),
    ],
)
def test_rows_that_cannot_be_asked_are_named(name: str, row: dict, complaint: str, tmp_path: Path) -> None:
    data = write(tmp_path, "questions.jsonl", [row])
    with pytest.raises(DataError, match=complaint):
        build(name, data)
