import pytest

from sightline.scoring.matching import choice, exact, final_answer, fitting_method, numeric, relaxed, to_number


@pytest.mark.parametrize(
    ("text", "answer"),
    [
        ("4", "4"),
        ("<think>3 or 4</think> 4 ", "4"),
        ("<think>3</think><answer> 4 </answer>", "4"),
        ("<answer>3</answer> no, <answer>4</answer>", "4"),
    ],
)
def test_the_final_answer_is_the_last_one_given(text, answer):
    assert final_answer(text) == answer


@pytest.mark.parametrize(
    ("truth", "method"),
    [("B", "choice"), ("(c)", "choice"), ("14", "numeric"), ("-1,200.5", "numeric"), ("130°", "numeric"),
     (r"\frac{1}{3}", "math"), ("$x^2$", "math"), ("Yes", "exact"), ("a red circle", "exact")],
)  # fmt: skip
def test_the_truth_says_how_to_compare(truth, method):
    assert fitting_method(truth) == method


def test_exact_overlooks_case_space_and_a_full_stop():
    assert exact("  A red\n circle. ", "a red circle")
    assert not exact("a red circle and a ring", "a red circle")


@pytest.mark.parametrize(
    ("answer", "truth", "same"),
    [
        ("It is 14.", "14", True),
        ("14.0", "14", True),
        ("7 + 7 = 14", "14", True),
        ("14, not 15", "14", False),
        ("1,200 people", "1200", True),
        ("−3", "-3", True),
        ("3", "-3", False),
        ("1.2e3", "1200", True),
        (r"\boxed{14}, as 2 · 7", "14", True),
        ("none", "0", False),
        ("fourteen", "14", False),
    ],
)
def test_numeric_reads_the_last_number(answer, truth, same):
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


def test_numbers_are_read_with_separators_and_unit_signs():
    assert [to_number(text) for text in ("$1,200", "50%", "25.0°", ".5", "B", "1.2.3")] == [
        1200,
        50,
        25,
        0.5,
        None,
        None,
    ]
