import threading
import time

import pytest

from sightline.rewards.accuracy import Accuracy
from sightline.scoring.math_verifier import MathVerifier


@pytest.fixture(scope="module")
def maths():
    verifier = MathVerifier(seconds=4.0)
    yield verifier
    verifier.close()


@pytest.mark.parametrize(
    ("truth", "answer", "verdict"),
    [
        (r"\frac{1}{3}", r"\frac{2}{6}", True),
        ("x^2 + 2x + 1", "(x+1)^2", True),
        (r"\frac{1}{3}", "0.5", False),
        (r"(-\infty, 2)", "x < 2", True),
        ("(3, 1)", "[3, 1]", False),
        ("", "4", None),
    ],
)
def test_the_same_mathematics_is_the_same_answer(maths, truth, answer, verdict):
    assert maths.compare([truth], [answer]).same is verdict


def test_any_reading_will_do_and_numbers_come_back_where_none_does(maths):
    assert maths.compare(["12", "12m"], ["3", "12 m"]).same is True
    assert maths.compare(["7"], ["x = 2 + 3", "x"]) == (False, [7.0], [5.0, None])


def test_it_answers_from_any_thread(maths):
    verdicts = []
    threads = [
        threading.Thread(target=lambda n=n: verdicts.append((n, maths.compare([str(n)], [str(n % 3)]).same)))
        for n in range(6)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(verdicts) == [(n, n < 3) for n in range(6)]


def test_a_comparison_that_takes_too_long_is_wrong_and_the_next_one_works(maths):
    started = time.perf_counter()
    assert maths.compare(["2"], ["9^{9^{9^{9}}}"]).same is False
    assert time.perf_counter() - started < 30
    assert maths.num_timeouts == 1
    assert maths.compare(["2"], ["2"]).same is True


def test_accuracy_hands_formulas_to_it():
    solutions = [r"$\frac{1}{2}$"] * 2
    assert Accuracy()(["<answer>0.5</answer>", "$2$"], solution=solutions) == [1.0, 0.0]
