"""Win rates: both orders, flips are ties. The server is a stub: what is tested is the protocol."""

import pytest
from tests.evaluation import toy

from sightline.errors import UserError
from sightline.evaluation.record import Record, record
from sightline.evaluation.task import Item, Task
from sightline.evaluation.win_rate import Verdict, pair_judge, win_rate
from sightline.scoring.judge import Judge


def said(task: Task, text: str) -> list[Record]:
    return [record(task, item, text) for item in task.items]


def longer(item: Item, first: str, second: str) -> Verdict:
    return "first" if len(first) > len(second) else "second"


def test_a_judge_who_likes_long_answers_finds_them_in_either_order() -> None:
    task = toy.task()
    found = win_rate(task, said(task, "No"), said(task, "No, there is none."), longer)
    assert (found.wins, found.losses, found.ties, found.unread) == (9, 0, 0, 0)
    assert found.consistency is not None and found.win_rate.value == found.consistency.value == 100.0
    assert win_rate(task, said(task, "No, there is none."), said(task, "No"), longer).win_rate.value == 0.0


def test_a_judge_who_likes_the_first_answer_decides_nothing() -> None:
    task = toy.task()
    found = win_rate(task, said(task, "No"), said(task, "Yes"), lambda item, first, second: "first")
    assert (found.wins, found.losses, found.ties) == (0, 0, 9)
    assert found.consistency is not None and (found.win_rate.value, found.consistency.value) == (50.0, 0.0)


def test_pairs_that_nobody_was_asked_about_do_not_make_the_judge_look_steady() -> None:
    task = toy.task()
    a, b = said(task, "No"), said(task, "Yes")
    mixed = [*a[:6], *b[6:]]
    found = win_rate(task, a, mixed, lambda item, first, second: "first")
    assert (found.ties, found.equal) == (9, 6)
    assert found.as_json()["consistency"]["value"] == 0.0


def test_equal_answers_are_ties_without_asking_and_other_replies_are_counted() -> None:
    task = toy.task()
    same = win_rate(task, said(task, "No"), said(task, "No"), lambda *pair: pytest.fail("asked"))
    assert (same.ties, same.equal, same.consistency) == (9, 9, None)
    mute = win_rate(task, said(task, "No"), said(task, "Yes"), lambda *pair: None)
    assert (mute.unread, mute.ties) == (9, 0)


def test_the_judge_sees_image_question_and_both_answers_and_is_asked_again_when_busy(server) -> None:
    url, asked, answers = server
    judge = pair_judge(Judge(url=url, model="stub"))
    item = toy.task().items[0]
    answers([(503, ""), (200, "The **Second** one."), (200, "hm")])
    assert judge(item, "Yes", "No") == "second"
    assert judge(item, "Yes", "No") is None
    image, text = asked[1]["messages"][1]["content"]
    assert image["image_url"]["url"].startswith("data:image/png;base64,")
    assert (
        "First answer:\nYes" in text["text"] and "Second answer:\nNo" in text["text"] and item.question in text["text"]
    )
    assert (asked[1]["model"], asked[1]["temperature"], len(asked)) == ("stub", 0, 3)


def test_a_server_that_refuses_is_the_user_s_to_mend(server) -> None:
    url, _, answers = server
    answers([(401, "")])
    with pytest.raises(UserError, match=r"answered 401.*--judge-model"):
        pair_judge(Judge(url=url, model="stub"))(toy.task().items[0], "Yes", "No")
