"""Readings of yes/no answers and the scores made of them."""

import pytest

from sightline.scoring.ratio import total
from sightline.scoring.yes_no import exact, first_sentence, judge, tolerant


@pytest.mark.parametrize(
    ("answer", "official", "read"),
    [
        ("Yes", "yes", "yes"),
        ("No", "no", "no"),
        ("Yes.", None, "yes"),
        ("no", None, "no"),
        ("No, there is no dog.", None, "no"),
        ("There isn't a dog.", None, "no"),
        ("There isn’t a dog.", None, "no"),
        ("I do not see one.", None, "no"),
        ("Nothing here, yes indeed.", None, "yes"),
        ("<think>Yes or no?</think> No, it is not.", None, "no"),
        ("A note on the eyes", None, None),
        ("", None, None),
    ],
)
def test_exact_takes_two_strings_only_and_tolerant_the_first_word_that_answers(answer, official, read) -> None:
    assert exact(answer) == official
    assert tolerant(answer) == read


@pytest.mark.parametrize(
    ("answer", "expected"),
    [
        ("No, there is no dog.", "no"),
        ("There is not a dog. Yes.", "no"),
        ("Yes. There is no cat.", "yes"),
        ("I cannot tell", "yes"),
        ("NO", "yes"),
    ],
)
def test_first_sentence_is_pope_s_reading_to_the_letter(answer: str, expected: str) -> None:
    assert first_sentence(answer) == expected


def scores(answers, truths, positive):
    judged = [judge(answer, truth, positive) for answer, truth in zip(answers, truths, strict=True)]
    return {name: total(one[name] for one in judged) for name in judged[0]}


def test_scores_by_hand_with_no_as_the_positive_class() -> None:
    #                  TP    FP    FN     right  unparsed
    answers = ["no", "no", "yes", "yes", None]
    truths = ["no", "yes", "no", "yes", "no"]
    assert scores(answers, truths, "no") == pytest.approx(
        {"accuracy": 2 / 5, "precision": 1 / 2, "recall": 1 / 3, "f1": 2 / 5, "yes_rate": 2 / 5}
    )


def test_the_positive_class_changes_precision_and_recall_but_not_accuracy() -> None:
    answers, truths = ["no", "no", "yes"], ["no", "yes", "yes"]
    no, yes = (scores(answers, truths, positive) for positive in ("no", "yes"))
    assert no["accuracy"] == yes["accuracy"] == 2 / 3
    assert (no["precision"], no["recall"]) == (1 / 2, 1.0)
    assert (yes["precision"], yes["recall"]) == (1.0, 1 / 2)
