"""Short answers by hand: VQA accuracy, ANLS and numbers."""

import pytest

from sightline.scoring.text_answers import anls, edit_distance, normal, same_number, vqa_accuracy


def test_vqa_accuracy_counts_agreement_among_ten_people() -> None:
    people = ["cat"] * 2 + ["dog"] * 8
    # leaving one of two cats out leaves 1/3, leaving a dog out leaves 2/3: (2 · 1/3 + 8 · 2/3) / 10
    assert vqa_accuracy("Cat.", people) == pytest.approx(0.6)
    assert vqa_accuracy("dog", people) == 1.0
    assert vqa_accuracy("bird", people) == 0.0
    assert vqa_accuracy("the two dogs", ["2 dogs"]) == 1.0


@pytest.mark.parametrize(
    ("text", "expected"),
    [("A Red  car!", "red car"), ("1,000.5", "1000.5"), ("don't", "dont"), ("none", "0"), ("left/right", "left right")],
)
def test_vqa_normal_form(text: str, expected: str) -> None:
    assert normal(text) == expected


def test_anls_by_hand() -> None:
    assert edit_distance("kitten", "sitting") == 3
    assert anls("sitting", ["kitten", "Sitting"]) == 1.0
    assert anls("kitten", ["sitting"]) == pytest.approx(1 - 3 / 7)
    assert anls("abc", ["xyz"]) == 0.0


def test_numbers_are_rounded_as_mathvista_rounds_them() -> None:
    assert same_number(1204.0, "1204", None)
    assert same_number(1.26, "1.3", 1)
    assert not same_number(1.24, "1.3", 1)
    assert not same_number(None, "3", None)
    assert not same_number(float("inf"), "3", None)
