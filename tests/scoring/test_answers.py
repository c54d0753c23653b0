"""The table in `answers.txt`: what rewards and evaluation make of some hundreds of answers."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from tests.scoring.variations import Variation, variations

from sightline.rewards.accuracy import Accuracy
from sightline.scoring.choices import chosen
from sightline.scoring.letters import LETTERS


class Row(NamedTuple):
    """kind: the section. truth: as a row of data has it. right: whether the answer says the same."""

    kind: str
    truth: Any
    choices: list[str] | None
    answer: str
    right: bool


def table() -> list[Row]:
    rows: list[Row] = []
    kind, truth, choices = "", None, None
    for line in Path(__file__).with_name("answers.txt").read_text(encoding="utf-8").splitlines():
        name, _, rest = line.partition(": ")
        if line.startswith("== "):
            kind, choices = line.strip("= "), None
        elif name == "truth":
            truth = rest
        elif name == "json":
            truth = json.loads(rest)
        elif name == "choices":
            choices = rest.split(" / ")
        elif line[:1] in ("+", "-"):
            rows.append(Row(kind, truth, choices, line[2:].replace("⏎", "\n"), line[0] == "+"))
    return rows


ROWS = table()


def disagreements(count: int, seed: int) -> list[Variation]:
    """Those of so many variations whose wording gets another reward than math-verify gives the bare expressions."""
    reward = Accuracy(method="math")
    drawn = list(variations(count, seed))
    rewards = reward([one.completion for one in drawn], solution=[one.solution for one in drawn])
    return [one for one, found in zip(drawn, rewards, strict=True) if found != float(one.verdict)]


@pytest.mark.parametrize("row", ROWS, ids=[f"{row.truth!r} {row.answer!r}" for row in ROWS])
def test_the_reward_gives_the_right_verdict(row: Row) -> None:
    columns = {} if row.choices is None else {"choices": [row.choices]}
    assert Accuracy()([row.answer], solution=[row.truth], **columns) == [float(row.right)]


def test_the_table_has_three_hundred_answers_of_which_many_are_wrong() -> None:
    assert len(ROWS) >= 300
    assert 0.35 < sum(row.right for row in ROWS) / len(ROWS) < 0.75


def test_evaluation_reads_choices_as_the_reward_does() -> None:
    rows = [row for row in ROWS if row.choices is not None]
    assert len(rows) > 50
    for row in rows:
        letter = row.truth.strip("()")
        right = row.choices.index(row.truth) if row.truth in row.choices else LETTERS.index(letter)
        assert (chosen(row.answer, row.choices) == right) is row.right, row


def test_random_wordings_get_math_verify_s_own_verdict() -> None:
    found = disagreements(200, seed=1)
    assert len(found) <= 2, found
