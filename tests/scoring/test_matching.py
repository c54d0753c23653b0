import time

import pytest

from sightline.scoring.matching import (
    choice,
    exact,
    fitting_method,
    mathematical,
    numeric,
    relaxed,
    same_words,
    to_number,
    value_of,
)
from sightline.scoring.settled import boxed, final_answer, settled, verdict

METHODS = {"choice": choice, "exact": exact, "numeric": numeric, "math": mathematical}


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4", "4"),
        ("<think>3 or 4</think> 4 ", "4"),
        ("<think>3</think><answer> 4 </answer>", "4"),
        ("<answer>3</answer> no, <answer>4</answer>", "4"),
        ("<think>say <answer>3</answer></think> 4", "4"),
        ("<think>3</think><answer>4", "4"),
        ("<Answer>4</Answer>", "4"),
        ("<think>3 or", ""),
    ],
)
def test_the_final_answer_is_the_last_one_given(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("truth", "method"),
    [("B", "choice"), ("(c)", "choice"), ("14", "numeric"), ("-1,200.5", "numeric"), ("130°", "numeric"),
     ("12 cm", "numeric"), (r"\frac{1}{3}", "numeric"), ("1 1/2", "numeric"), ("three", "numeric"), ("30%", "numeric"),
     ("$x^2$", "math"), (r"2\sqrt{3}", "math"), ("(1, 2)", "math"), ("x = 5", "math"), ("1, 2", "math"),
     ("Yes", "yes_no"), ("False", "yes_no"), ("a red circle", "exact"), ("3D printer", "exact"), ("AB", "exact"),
     ("2024-03-15", "exact"), ("(C) red", "choice"), (r"\text{B}", "choice"), (r"\text{north}", "exact"),
     ("A car", "exact")],
)  # fmt: skip
def test_the_truth_says_how_to_compare(truth, method):
    assert fitting_method(truth) == method


def test_exact_overlooks_case_space_emphasis_an_article_and_a_full_stop():
    assert exact("  A red\n circle. ", "a red circle")
    assert exact("**Red circle**", "a red circle")
    assert not exact("a red circle and a ring", "a red circle")


def test_the_same_words_are_the_whole_text():
    assert same_words("  A red\n circle. ", "a red circle")
    assert not same_words("red circle", "a red circle")


@pytest.mark.parametrize(
    ("text", "inside"),
    [(r"\boxed{2\sqrt{3}}", r"2\sqrt{3}"), (r"\boxed{1} or \boxed{\frac{1}{2}}", r"\frac{1}{2}"), (r"\boxed{2", None)],
)
def test_a_box_holds_braces(text, inside):
    assert boxed(text) == inside


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("The answer is 12, not 13.", "12, not 13"),
        ("The answer is not B. The answer is C.", "C"),
        ("The answer is 5? No, the answer is 6.", "6"),
        ("Answer: A. One may think the answer is D.", "A"),
        ("The answer is A. Wait, the answer is B.", "B"),
        ("The answer is A for the first. So the answer is B.", "B"),
        ("答案：12", "12"),
        ("#### 12", "12"),
        ("Nothing of the kind.", "Nothing of the kind."),
    ],
)
def test_the_verdict_is_the_first_unless_it_is_corrected(text, said):
    assert settled(text)[0] == said
    assert (verdict(text) is None) is (said == text)


@pytest.mark.parametrize(
    ("answer", "truth", "same"),
    [
        ("It is 14.", "14", True),
        ("14.0", "14", True),
        ("7 + 7 = 14", "14", True),
        ("14, not 15", "14", True),
        ("15, then 14 of them", "14", True),
        ("1,200 people", "1200", True),
        ("−3", "-3", True),
        ("3", "-3", False),
        ("1.2e3", "1200", True),
        (r"\boxed{14}, as 2 · 7", "14", True),
        ("none", "0", False),
        ("fourteen", "14", True),
        ("14", "no number", False),
    ],
)
def test_numeric_reads_the_last_whole_expression(answer, truth, same):
    assert numeric(answer, truth) is same


@pytest.mark.parametrize(
    ("answer", "same"),
    [
        ("B", True), ("b", True), ("(B)", True), ("B.", True), ("B. 130°", True), ("B: 130", True),
        ("The answer is B", True), ("The correct option is (b).", True), ("**B**", True), (r"\boxed{B}", True),
        ("Not A but B", True), ("A", False), ("Bats are animals", False), ("A or C", False), ("", False),
        ("The answer is C, not B", False),
    ],
)  # fmt: skip
def test_a_choice_is_read_from_any_common_wording(answer, same):
    assert choice(answer, "(B)") is same


@pytest.mark.parametrize(
    ("answer", "truth", "same"),
    [
        ("10.5", "10", True), ("10.51", "10", False), ("95%", "0.96", True), ("20%", "20", False),
        ("Yes", "yes", True), ("Yes.", "yes", False), ("0", "0", True), ("0.0", "0", False),
    ],
)  # fmt: skip
def test_relaxed_is_chartqas_official_rule(answer, truth, same):
    """As `relaxed_correctness` in the official scorer: 5% of the truth, `%` divides by 100, a truth of 0 is a word."""
    assert relaxed(answer, truth) is same


@pytest.mark.parametrize(
    ("text", "value"),
    [("$1,200", 1200), ("50%", 50), ("25.0°", 25), (".5", 0.5), ("1 200 km", 1200), ("−3/4", -0.75), ("2 1/2", 2.5),
     ("two hundred and five", 205), ("1.5e3", 1500), ("B", None), ("1.2.3", None), ("5 dogs", None), ("x = 5", None),
     ("one", None)],
)  # fmt: skip
def test_numbers_are_read_with_separators_units_and_in_words(text, value):
    assert to_number(text) == value


def test_what_an_answer_comes_to_may_be_a_formula():
    assert value_of(r"so it is $2\sqrt{3}$ cm") == pytest.approx(3.4641016)
    assert value_of("7 + 7 = 14") == 14
    assert value_of("no idea") is None


@pytest.mark.parametrize(
    "babble", ["(", "{", "^{", "\\frac{", "\\boxed{", "1 ", "1,", "9^", "A ", "the answer is ", "$1", "=1", "so "]
)
def test_endless_babble_is_read_in_time(babble):
    answer = babble * (3000 // len(babble))
    started = time.process_time()
    for truth in ("3", r"\sqrt{2}", "1, 2", "B", "red cat"):
        assert not METHODS[fitting_method(truth)](answer, truth)
    assert time.process_time() - started < 8
