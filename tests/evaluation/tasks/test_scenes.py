import pytest

from sightline.evaluation.record import Record, record
from sightline.evaluation.summary import summarise
from sightline.evaluation.task import Item
from sightline.evaluation.tasks.scenes import marks, scenes_task, scenes_tasks
from sightline.scenes.questions import describe
from sightline.scenes.world import Thing

TASK = scenes_task(120)


def things(names: list[str]) -> tuple[Thing, ...]:
    return tuple(Thing(*name.split()) for name in names)


def answered(answer) -> list[Record]:
    return [record(TASK, item, answer(item)) for item in TASK.items]


def of_kind(kind: str) -> list[Item]:
    return [item for item in TASK.items if item.truth["kind"] == kind]


def test_true_answers_score_full_marks():
    summary = summarise(TASK, answered(lambda item: item.truth["answer"]))
    right = ("cover", "accuracy", "f1", "counting", "attribute")
    assert {name: summary.overall(name).value for name in right} == dict.fromkeys(right, 100.0)
    assert {name: summary.overall(name).value for name in ("chair", "hal", "cog")} == {"chair": 0, "hal": 0, "cog": 0}


def test_naming_companions_is_hallucination_of_cognition():
    def habitual(item: Item) -> str:
        if item.truth["kind"] != "description":
            return item.truth["answer"]
        return describe(things([*item.truth["objects"], *item.truth["companions"][:1]]))

    summary = summarise(TASK, answered(habitual))
    inviting = [item for item in of_kind("description") if item.truth["companions"]]
    assert summary.overall("hal").value == pytest.approx(100 * len(inviting) / 120)
    companions = sum(len(item.truth["companions"]) for item in inviting)
    assert summary.overall("cog").value == pytest.approx(100 * len(inviting) / companions)
    assert summary.overall("cover").value == 100


def test_always_no_is_right_two_times_in_three_and_is_shown_as_a_baseline():
    always = summarise(TASK, answered(lambda item: item.truth["answer"])).baselines["always “No”"]["all"]
    assert always["accuracy"].value == pytest.approx(200 / 3, abs=1)
    assert always["f1"].value == pytest.approx(80, abs=1)


def test_counting_and_attributes_need_the_answer_itself():
    question = of_kind("counting")[0]
    wrong = "0" if question.truth["answer"] != "0" else "1"
    assert record(TASK, question, f"{question.truth['answer']}.").scores["counting"].numerator == 1
    assert record(TASK, question, wrong).scores["counting"].numerator == 0


def test_marks_are_what_is_not_there():
    item = next(item for item in of_kind("description") if item.truth["companions"])
    invented = item.truth["companions"][0]
    assert marks(item, describe(things([*item.truth["objects"], invented]))) == (invented,)
    assert marks(item, item.truth["answer"]) == ()
    denied = next(item for item in of_kind("existence") if item.truth["answer"] == "No")
    assert marks(denied, "Yes") == ("Yes",)
    assert marks(denied, "No") == ()


def test_items_are_grouped_and_named_once():
    ids = [item.id for item in TASK.items]
    assert len(set(ids)) == len(ids)
    assert {group for item in TASK.items for group in item.groups} == {
        *("description", "existence", "counting", "attribute"),
        *("existence: present", "existence: absent", "existence: companion"),
    }


def test_the_command_line_draws_scenes_that_nothing_was_trained_on():
    (task,) = scenes_tasks(num_scenes=3, seed=5)
    assert task.items[0].id == "90005-0-0"
