"""Tasks that a judge grades or reads: MMHal-Bench, and MathVista where no rule finds the answer."""

import json
from pathlib import Path

import pytest
from tests.evaluation import toy

from sightline.cli.main import main
from sightline.evaluation.record import record, records_of
from sightline.evaluation.summary import summarise
from sightline.evaluation.tasks.mathvista import mathvista
from sightline.evaluation.tasks.mmhal import grade, mmhal, score_of
from sightline.scoring.judge import Judge
from sightline.scoring.ratio import Ratio


def write_mmhal(folder: Path) -> Path:
    (folder / "image").mkdir(parents=True)
    rows = []
    for number, kind in enumerate(("attribute", "adversarial", "attribute", "counting")):
        toy.image(number).save(folder / "image" / f"{number}.png")
        rows.append({
            "question_type": kind, "question_topic": "food", "image_src": f"https://images.example/o/{number}.png",
            "image_content": ["Table", "Cup"], "question": f"What is on the table {number}?",
            "gt_answer": "A cup.", "model_answer": "",
        })  # fmt: skip
    (folder / "response_template.json").write_text(json.dumps(rows))
    return folder


def test_mmhal_is_graded_by_the_judge_and_grades_below_three_are_hallucinations(tmp_path, server):
    url, asked, answers = server
    answers([(200, "Rating: 6"), (200, "rating: **2**"), (200, "I cannot say."), (200, "3")])
    task = mmhal(write_mmhal(tmp_path), Judge(url=url, model="stub"))
    records = [record(task, item, "A cup and a plate.") for item in task.items]
    found = summarise(task, records)
    assert task.title == "MMHal-Bench (graded by stub)"
    assert found.overall("rating").value == pytest.approx((6 + 2 + 3) / 3)
    assert found.overall("hal").value == pytest.approx(100 / 3) and found.overall("unread").value == 25.0
    assert found.figures["adversarial"]["hal"].value == 100.0
    said = asked[0]["messages"][1]["content"][-1]["text"]
    assert all(part in said for part in ("Table, Cup", "What is on the table 0?", "A cup.", "A cup and a plate."))


def test_several_answers_are_graded_at_a_time_and_stay_in_order(tmp_path, server):
    url, asked, _ = server
    task = mmhal(write_mmhal(tmp_path), Judge(url=url, model="stub"))
    records = records_of(task, [(item, f"answer {i}") for i, item in enumerate(task.items)])
    assert [r.answer for r in records] == [f"answer {i}" for i in range(4)] and len(asked) == 4


@pytest.mark.parametrize(
    ("reply", "expected"),
    [("Rating: 5", 5), ("Good. Rating - 0", 0), ("4.", 4), ("Rating: 7", None), ("Rating: 3.5", None), ("", None)],
)
def test_a_grade_is_read_or_counted_as_unread(reply, expected):
    assert grade(reply) == expected
    assert score_of(None) == {"unread": Ratio(1.0, 1.0)}


def test_mmhal_without_a_judge_says_what_it_needs(tmp_path, capsys):
    assert main(["evaluate", "m", "--task", "mmhal", "--data", str(write_mmhal(tmp_path))]) == 2
    assert "--judge URL and --judge-model NAME" in capsys.readouterr().err
    assert main(["evaluate", "m", "--task", "mmhal", "--data", str(tmp_path), "--judge", "http://x"]) == 2
    assert "A judge needs both" in capsys.readouterr().err


def test_mathvista_asks_the_judge_only_where_the_answer_is_not_bare(tmp_path, server):
    url, asked, answers = server
    (tmp_path / "images").mkdir()
    toy.image(0).save(tmp_path / "images" / "1.png")
    problem = {"question": "How many?", "image": "images/1.png", "answer": "7", "answer_type": "integer"}
    choice = {**problem, "choices": ["red", "blue"], "answer": "red", "answer_type": "text"}
    (tmp_path / "testmini.json").write_text(json.dumps({"1": problem, "2": choice}))
    task = mathvista(tmp_path / "testmini.json", Judge(url=url, model="stub"))
    answers([(200, "7"), (200, "A")])
    one, two = task.items
    long = "There are 7 marbles in the jar, and 12 more stand beside it."
    assert record(task, one, "7").scores["accuracy"].numerator == 1 and not asked
    assert record(task, one, long).scores["accuracy"].numerator == 1
    assert record(task, two, "B").scores["accuracy"].numerator == 0 and len(asked) == 1
    assert record(task, two, "Since blue is not shown, the first one it is.").scores["accuracy"].numerator == 1
    assert long in asked[0]["messages"][1]["content"][-1]["text"]
    assert task.title == "MathVista (extraction by stub)"
    by_rule = mathvista(tmp_path / "testmini.json")
    assert record(by_rule, by_rule.items[0], long).scores["accuracy"].numerator == 0
