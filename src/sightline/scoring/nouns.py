"""Nouns in the singular, against a vocabulary: WordNet's rules and exceptions; no tagger, no dictionary, no network.

A form is accepted when the *vocabulary* holds it. Against the official AMBER chain (NLTK's tagger and WordNet) the
difference is that a word of the vocabulary counts whatever its part of speech: "a light blue sky" mentions a light.
"""

import re
from collections.abc import Collection, Iterator
from functools import cache
from pathlib import Path

ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ("ves", "f"), ("ves", "fe"), ("oes", "o"),
)  # fmt: skip
IRREGULAR = Path(__file__).with_name("irregular_nouns.txt")

WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")


def nouns(text: str, vocabulary: Collection[str]) -> list[str]:
    """Every word of the text that the vocabulary holds, as it holds it, in order; repetitions stay.

    Words are compared as they are written, as officially: "Dog" is not "dog".
    """
    found = (singular(word, vocabulary) for word in WORD.findall(text))
    return [word for word in found if word is not None]


def singular(word: str, vocabulary: Collection[str]) -> str | None:
    """The shortest form of `word` in the vocabulary (so does WordNet's lemmatizer choose); None if there is none."""
    known = [form for form in forms(word) if form in vocabulary]
    return min(known, key=len) if known else None


def forms(word: str) -> Iterator[str]:
    """The word, then what it may be the plural of; most of that is no English: "buss" has no "bus"."""
    yield word
    yield from irregular().get(word, ())
    for end, instead in ENDINGS:
        if word.endswith(end) and word != "s":
            yield word[: -len(end)] + instead


@cache
def irregular() -> dict[str, list[str]]:
    """Plurals that no rule leads back → their singulars."""
    lines = (line.split() for line in IRREGULAR.read_text(encoding="utf-8").splitlines() if not line.startswith("#"))
    return {plural: singulars for plural, *singulars in lines}
