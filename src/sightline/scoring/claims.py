"""An answer as single claims, each a question that yes or no answers (RLAIF-V, arXiv:2405.17220, §3.2: "divide and
conquer"). The rules here need no model; `rewards.claims` can have a judge do it instead."""

import re
from typing import Literal, NamedTuple

from sightline.scoring.settled import final_answer

SENTENCE = re.compile(r"(?<=[.!?])[\"')\]]*\s+|\n+")
"""Between two sentences; between lines, too."""
PHRASE = re.compile(r"\s*(?:;|,(?:\s+and\b)?|\band\b)\s+", re.IGNORECASE)
"""Between the members of a list."""
BULLET = re.compile(r"^\s*(?:[-*•–]|\d+[.)])\s+")
QUESTION_MARK = re.compile(r"\s*(?:=>|\||→)\s*")
"""Between a claim and its question, as a judge writes them."""
ARTICLES = ("A", "An", "The", "There", "Some", "Two", "Three")


class Claim(NamedTuple):
    """What an answer says, and how to ask whether it holds."""

    text: str
    question: str


def claims_in(answer: str, split: Literal["sentences", "phrases"], question: str) -> list[Claim]:
    """The claims of an answer by rules; what it settles on is read, not the reasoning before it.

    split: a claim a sentence, or one for each member of a list in it (`a red circle, a dog and two cups`).
    question: how to ask, `{claim}` standing for the claim.
    """
    found = [one for sentence in SENTENCE.split(final_answer(answer)) if (one := BULLET.sub("", sentence).strip())]
    if split == "phrases":
        found = [part for sentence in found for part in PHRASE.split(_open(sentence.rstrip(".!"))) if part.strip()]
    return [Claim(one, question.replace("{claim}", one)) for one in dict.fromkeys(map(str.strip, found))]


def claims_written(reply: str, question: str) -> list[Claim]:
    """The claims that a judge wrote, one a line, `claim => question`; a line without a question is asked by `question`.

    Lines that begin with a bullet or a number are read without it. Empty where the reply has no such line.
    """
    claims = []
    for line in reply.splitlines():
        words = BULLET.sub("", line).strip()
        if not words or words.endswith(":") or words.upper() == "NONE":
            continue
        text, *asked = QUESTION_MARK.split(words, maxsplit=1)
        if text:
            claims.append(Claim(text, asked[0] if asked and asked[0] else question.replace("{claim}", text)))
    return list(dict.fromkeys(claims))


def share_held(verdicts: list[float | None]) -> float | None:
    """The share of the judged claims that hold, each verdict from 0 (no) to 1 (yes); None where none is judged."""
    judged = [verdict for verdict in verdicts if verdict is not None]
    return sum(verdict >= 0.5 for verdict in judged) / len(judged) if judged else None


def _open(sentence: str) -> str:
    """Without the capital of a sentence's first word, where that is an article and no name."""
    first = sentence.split(maxsplit=1)[0] if sentence.strip() else ""
    return sentence[0].lower() + sentence[1:] if first in ARTICLES else sentence
