"""Two models on the same items: differences, tests, and what is refused."""

from dataclasses import replace

import pytest
from tests.evaluation import toy

from sightline.errors import DataError
from sightline.evaluation.comparison import compare
from sightline.evaluation.record import Record, record
from sightline.evaluation.statistics import mcnemar
from sightline.evaluation.task import Task
from sightline.evaluation.tasks.metrics import CAPTIONS
from sightline.scoring import chair


def answers(task: Task, right: set[str]) -> list[Record]:
    said = {True: {"yes": "Yes", "no": "No"}, False: {"yes": "No", "no": "Yes"}}
    return [record(task, item, said[item.id in right][item.truth]) for item in task.items]


def test_a_better_model_is_told_from_a_worse_one() -> None:
    task = toy.task(num_images=20)
    ids = [item.id for item in task.items]
    a, b = answers(task, set(ids[:20])), answers(task, set(ids[5:50]))
    found = compare(task, a, b)
    assert found.items == 60
    images = [item.image_id for item in task.items]
    assert found.mcnemar == mcnemar([i < 20 for i in range(60)], [5 <= i < 50 for i in range(60)], images)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (5, 30)
    gained = found.differences["accuracy"]
    assert gained.value == pytest.approx(100 * 25 / 60)
    assert 0 < gained.low < gained.value < gained.high
    # Connor's formula for the sixty questions gives 24; the gains are bunched on images
    assert 30 < found.smallest < 50
    assert found.as_json()["differences"]["accuracy"]["value"] == gained.value


def test_a_model_does_not_differ_from_itself() -> None:
    task = toy.task()
    a = answers(task, {"0-0", "1-1"})
    found = compare(task, a, a)
    assert found.mcnemar.p_value == 1.0
    assert all(d.value == 0.0 and d.p_value == 1.0 for d in found.differences.values())


def test_answers_that_the_rate_does_not_concern_are_left_out_of_the_test_but_have_a_verdict() -> None:
    task = replace(toy.task(), metrics=(*CAPTIONS, *toy.task().metrics))
    questions = answers(task, {"0-0"})
    task = replace(task, items=[*task.items, replace(task.items[0], id="caption")])
    caption = replace(questions[0], id="caption", scores=chair.judge(chair.count_mentions(["cat"], present=["cat"])))
    found = compare(task, [*questions, caption], [*questions, caption])
    assert (found.items, found.judged) == (10, 9)
    assert task.is_right(caption.scores)
    wrong = chair.judge(chair.count_mentions(["cat", "dog"], present=["cat"]))
    assert not task.is_right(wrong)


def test_only_common_items_count_and_the_others_are_counted() -> None:
    task = toy.task()
    a, b = answers(task, {"0-0"}), answers(task, {"0-0"})
    found = compare(task, a[:6], list(reversed(b[3:])))
    assert (found.items, found.only_one) == (3, 6)
    assert found.mcnemar.only_a == found.mcnemar.only_b == 0
    with pytest.raises(DataError, match="no item of task toy in common"):
        compare(task, a[:2], b[2:])


def test_a_caption_is_right_when_it_does_not_hallucinate() -> None:
    def scorer(item, answer):
        return chair.judge(chair.count_mentions(answer.split(), present=["cat"]))

    task = replace(toy.task(), scorer=scorer, metrics=CAPTIONS, correct="hal", baselines={})
    clean, wrong = ([record(task, item, text) for item in task.items] for text in ("cat", "cat dog"))
    assert task.is_right(clean[0].scores) and not task.is_right(wrong[0].scores)
    found = compare(task, wrong, clean)
    assert (found.mcnemar.only_a, found.mcnemar.only_b) == (0, 9)
    assert found.differences["hal"].value == -100.0
    assert "cog" not in found.differences
