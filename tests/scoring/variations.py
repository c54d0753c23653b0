"""Random truths and answers in random wordings, with math-verify's own verdict on the two bare expressions."""

import logging
from collections.abc import Iterator
from random import Random
from typing import NamedTuple

import math_verify


class Variation(NamedTuple):
    """solution and completion: as data and a model may write truth and answer, which are clean LaTeX."""

    truth: str
    answer: str
    solution: str
    completion: str
    verdict: bool


def variations(count: int, seed: int) -> Iterator[Variation]:
    """The same for the same seed."""
    random = Random(seed)
    logging.getLogger("math_verify").setLevel(logging.ERROR)
    for _ in range(count):
        kind = random.choice(KINDS)
        truth = kind(random)
        draw = random.random()
        answer = (
            _same(random, truth) if draw < 0.5 else _near(random, truth) if draw < 0.8 else random.choice(KINDS)(random)
        )
        yield Variation(truth, answer, _as_truth(random, truth), _in_words(random, answer), own_verdict(truth, answer))


def own_verdict(truth: str, answer: str) -> bool:
    """math-verify's, of two expressions between `$`."""
    wanted, found = (math_verify.parse(f"${text}$", parsing_timeout=None) for text in (truth, answer))
    return math_verify.verify(wanted, found, timeout_seconds=None)


def _integer(random: Random) -> str:
    return str(random.choice((random.randint(-20, 20), random.randint(2, 999), random.randint(1000, 99999))))


def _decimal(random: Random) -> str:
    return f"{random.uniform(-50, 50):.{random.randint(1, 3)}f}"


def _fraction(random: Random) -> str:
    return rf"\frac{{{random.randint(1, 20)}}}{{{random.randint(2, 20)}}}"


def _root(random: Random) -> str:
    return rf"{random.choice(('', '2', '5', '-3', '12'))}\sqrt{{{random.choice((2, 3, 5, 6, 7, 10))}}}"


def _of_pi(random: Random) -> str:
    return random.choice((rf"{random.randint(2, 40)}\pi", rf"\frac{{\pi}}{{{random.randint(2, 9)}}}"))


def _power(random: Random) -> str:
    return rf"{random.choice(('1.5', '2', '3.25'))} \times 10^{{{random.randint(-4, 5)}}}"


def _pair(random: Random) -> str:
    return f"({random.randint(-9, 9)}, {random.choice((str(random.randint(1, 9)), _fraction(random)))})"


def _interval(random: Random) -> str:
    low = random.randint(-9, 5)
    return f"{random.choice('([')}{low}, {low + random.randint(1, 9)}{random.choice(')]')}"


def _set(random: Random) -> str:
    return rf"\{{{', '.join(map(str, random.sample(range(-9, 10), 2)))}\}}"


def _algebra(random: Random) -> str:
    a, b = random.randint(2, 9), random.randint(1, 9)
    return random.choice((f"{a}x + {b}", f"x^{{2}} - {b}", rf"\frac{{x}}{{{a}}}", f"{a}x^{{3}}", f"y = {a}x - {b}"))


KINDS = (_integer, _decimal, _fraction, _root, _of_pi, _power, _pair, _interval, _set, _algebra)


def _same(random: Random, truth: str) -> str:
    """The truth, now and then in another form."""
    forms = [truth, truth, truth.replace(" ", ""), truth.replace(r"\frac", r"\dfrac")]
    if truth.lstrip("-").isdigit():
        forms += [f"{truth}.0", rf"\frac{{{2 * int(truth)}}}{{2}}"]
    if " + " in truth:
        left, _, right = truth.partition(" + ")
        forms.append(f"{right} + {left}")
    return random.choice(forms)


def _near(random: Random, truth: str) -> str:
    """A part of the truth, or the truth with a digit changed: what a careless reader takes for it."""
    digits = [place for place, character in enumerate(truth) if character.isdigit()]
    place = random.choice(digits) if digits else 0
    changed = truth[:place] + str((int(truth[place]) + 1) % 10) + truth[place + 1 :] if digits else "0"
    return random.choice((changed, truth[place]))


def _as_truth(random: Random, truth: str) -> str:
    return random.choice((truth, truth, f"${truth}$", rf"\boxed{{{truth}}}", f"<answer>{truth}</answer>"))


def _in_words(random: Random, answer: str) -> str:
    """The answer in tags, boxes or sentences, with or without `$`."""
    shown = random.choice((answer, f"${answer}$", rf"\({answer}\)"))
    other = random.randint(2, 99)
    return random.choice(
        (
            shown,
            rf"\boxed{{{answer}}}",
            f"<answer>{shown}</answer>",
            f"<think>Perhaps {other}, or \\sqrt{{{other}}}.</think>\n<answer>{shown}</answer>",
            f"The answer is {shown}.",
            f"**Answer:** {shown}",
            f"First we get {other}. So the final answer is {shown}, not {other}.",
            f"With {other} we find the result.\nTherefore the answer is: {shown}",
            f"We have {other} of them, which gives $\\boxed{{{answer}}}$. I checked it {other} times.",
            f"There are {other} at first, and then {shown}.",
        )
    )
