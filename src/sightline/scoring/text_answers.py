"""Short answers against human ones: VQA accuracy (arXiv:1505.00468), ANLS (arXiv:1905.13648), MathVista's normal forms.

Left out of VQA's normalisation: its table of 120 contractions; apostrophes go instead, so "dont" and "don't" agree.
"""

import re
from collections.abc import Sequence
from math import isfinite

NUMBER_WORDS = {
    "none": "0", "zero": "0", "one": "1", "two": "2", "three": "3", "four": "4", "five": "5", "six": "6",
    "seven": "7", "eight": "8", "nine": "9", "ten": "10",
}  # fmt: skip
ARTICLES = frozenset({"a", "an", "the"})
PUNCTUATION = re.compile(r"[;/\[\]\"{}()=+\\_\-><@`?!]|(?<!\d),|,(?!\d)|(?<!\d)\.|\.(?!\d)")
FEWEST_PEOPLE = 4
"""Answers from which on they are taken for different people's; benchmarks have ten."""


def vqa_accuracy(answer: str, truths: Sequence[str]) -> float:
    """Between 0 and 1: over every choice of all human answers but one, min(1, how many of them agree / 3).

    Fewer than four are no people's votes but the accepted answers: any of them is 1, anything else 0. Three people who
    agree to a word would make a right answer 2/3 by the rule.
    """
    said, agreed = normal(answer), [normal(t) for t in truths]
    if len(agreed) < FEWEST_PEOPLE:
        return float(said in agreed)
    matches = [said == t for t in agreed]
    return sum(min(1.0, (sum(matches) - own) / 3) for own in matches) / len(matches)


def normal(text: str) -> str:
    """VQA's normal form: lower case, no punctuation but in numbers, digits for number words, no articles."""
    flat = text.lower().replace("\n", " ").replace("\t", " ").strip().replace("'", "").replace("’", "")
    words = PUNCTUATION.sub(" ", flat).replace(",", "").split()
    return " ".join(NUMBER_WORDS.get(word, word) for word in words if word not in ARTICLES)


def anls(answer: str, truths: Sequence[str], threshold: float = 0.5) -> float:
    """The best of 1 − edit distance / longer length over the truths; 0 below the threshold. Case does not count."""
    said = " ".join(answer.lower().split())
    best = 0.0
    for truth in truths:
        wanted = " ".join(truth.lower().split())
        longest = max(len(said), len(wanted))
        best = max(best, 1 - edit_distance(said, wanted) / longest if longest else 1.0)
    return best if best >= threshold else 0.0


def edit_distance(a: str, b: str) -> int:
    """Levenshtein's: insertions, deletions and replacements of characters."""
    previous = list(range(len(b) + 1))
    for i, left in enumerate(a, start=1):
        current = [i]
        for j, right in enumerate(b, start=1):
            current.append(min(previous[j] + 1, current[-1] + 1, previous[j - 1] + (left != right)))
        previous = current
    return previous[-1]


def same_number(said: float | None, truth: str, precision: int | None) -> bool:
    """Whether a number is the truth, rounded as MathVista rounds: to `precision` decimals, or cut to a whole one."""
    if said is None or not isfinite(said):
        return False
    wanted = float(truth.replace(",", ""))
    if precision is None:
        return int(said) == int(wanted)
    return round(said, precision) == round(wanted, precision)
