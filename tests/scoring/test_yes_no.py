"""Readings of yes/no answers and the scores made of them."""

import pytest

from sightline.scoring.yes_no import count, exact, first_sentence, tolerant


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


def test_scores_by_hand_with_no_as_the_positive_class() -> None:
    #                  TP    FP    FN     right  unparsed
    answers = ["no", "no", "yes", "yes", None]
    truths = ["no", "yes", "no", "yes", "no"]
    scores = count(answers, truths, positive="no")
    assert scores.accuracy == 2 / 5
    assert scores.precision == 1 / 2
    assert scores.recall == 1 / 3
    assert scores.f1 == pytest.approx(2 / 5)
    assert scores.yes_rate == 2 / 5
    assert scores.unparsed_rate == 1 / 5


def test_the_positive_class_changes_precision_and_recall_but_not_accuracy() -> None:
    answers, truths = ["no", "no", "yes"], ["no", "yes", "yes"]
    no, yes = (count(answers, truths, positive=p) for p in ("no", "yes"))
    assert no.accuracy == yes.accuracy == 2 / 3
    assert (no.precision, no.recall) == (1 / 2, 1.0)
    assert (yes.precision, yes.recall) == (1.0, 1 / 2)


def test_always_no_is_right_where_the_truth_is_no() -> None:
    scores = count(["no"] * 3, ["no", "no", "yes"], positive="no")
    assert (scores.accuracy, scores.recall, scores.yes_rate) == (2 / 3, 1.0, 0.0)


def test_scores_of_nothing_are_zero_and_lengths_must_match() -> None:
    empty = count([], [], positive="no")
    assert (empty.accuracy, empty.precision, empty.recall, empty.f1) == (0.0, 0.0, 0.0, 0.0)
    with pytest.raises(ValueError, match="longer"):
        count(["no"], ["no", "yes"], positive="no")
