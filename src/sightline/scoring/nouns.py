"""Words of a text that belong to a vocabulary of nouns, in the singular; no tagger, no dictionary, no network.

WordNet's own rules for nouns, with its common exceptions, accept a form when the *vocabulary* holds it. Against the
official AMBER chain (NLTK's tagger and WordNet) the difference is that a word of the vocabulary counts whatever its
part of speech: "a light blue sky" mentions a light here.
"""

import re
from collections.abc import Collection

ENDINGS = (
    ("s", ""), ("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh"), ("men", "man"), ("ies", "y"),
    ("ves", "f"), ("ves", "fe"), ("oes", "o"),
)  # fmt: skip
IRREGULAR = {"children": "child", "feet": "foot", "geese": "goose", "mice": "mouse", "oxen": "ox", "teeth": "tooth"}

WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")


def nouns(text: str, vocabulary: Collection[str]) -> list[str]:
    """Every word of the text that the vocabulary holds, as it holds it, in order; repetitions stay.

    Words are compared as they are written, as officially: "Dog" is not "dog".
    """
    found = (singular(word, vocabulary) for word in WORD.findall(text))
    return [word for word in found if word is not None]


def singular(word: str, vocabulary: Collection[str]) -> str | None:
    """The shortest form of `word` in the vocabulary (so does WordNet's lemmatizer choose); None if there is none."""
    forms = {word, IRREGULAR.get(word, word)}
    forms |= {word[: -len(end)] + instead for end, instead in ENDINGS if word.endswith(end)}
    known = [form for form in forms if form in vocabulary]
    return min(known, key=len) if known else None
