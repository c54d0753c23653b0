"""Yes/no answers: what was said, and how often it was right.

Two readings, reported side by side. `exact` is the official AMBER scorer's: the answer is the string `Yes` or `No` and
nothing else; "Yes." is neither. `tolerant` reads the first word that is a yes or a no. POPE's own reading is
`first_sentence`: a "no" or "not" in the first sentence is a no, all else is a yes, so nothing is ever unparsed.
"""

import re
from typing import Literal

from sightline.scoring.ratio import Ratio, Ratios, amount, rate
from sightline.scoring.settled import final_answer

Answer = Literal["yes", "no"]

_FIRST_WORD = re.compile(r"\b(yes|yeah|yep|no|nope|not)\b|n't\b", re.IGNORECASE)
_YES = frozenset({"yes", "yeah", "yep"})
_ANY_WORD = re.compile(_FIRST_WORD.pattern + r"|\b(?:true|correct|false|incorrect|wrong)\b", re.IGNORECASE)
_ANY_YES = _YES | {"true", "correct"}


def exact(answer: str) -> Answer | None:
    """AMBER's official reading: `Yes` and `No`, to the letter; None for everything else."""
    match answer:
        case "Yes":
            return "yes"
        case "No":
            return "no"
        case _:
            return None


def tolerant(answer: str) -> Answer | None:
    """The first yes or no among the words ("not" and "n't" are a no) of the final answer; None when there is none."""
    found = _FIRST_WORD.search(final_answer(answer).replace("’", "'"))
    if found is None:
        return None
    return "yes" if found.group().lower() in _YES else "no"


def says_yes(text: str) -> bool | None:
    """Whether a short answer says yes: as `tolerant`, "true" and "correct" being a yes, "false" and "wrong" a no."""
    found = _ANY_WORD.search(text.replace("’", "'"))
    return None if found is None else found.group().lower() in _ANY_YES


def first_sentence(answer: str) -> Answer:
    """POPE's official reading: of the first sentence, commas away, a word `No`, `no` or `not` makes a no; else yes."""
    words = answer.split(".")[0].replace(",", "").split(" ")
    return "no" if any(word in ("No", "no", "not") for word in words) else "yes"


def judge(answer: Answer | None, truth: Answer, positive: Answer) -> Ratios:
    """One parsed answer's part in accuracy, precision, recall, F1 and yes_rate.

    positive: the class that precision, recall and F1 are about. AMBER's is "no" (the hallucination is the yes), POPE's
    "yes". An unparsed answer is wrong, and a prediction of neither class.
    """
    said, true = answer == positive, truth == positive
    hit = float(said and true)
    return {
        "accuracy": rate(answer == truth),
        "precision": Ratio(hit, float(said)),
        "recall": Ratio(hit, float(true)),
        "f1": Ratio(2 * hit, float(said) + float(true)),
        "yes_rate": rate(answer == "yes"),
    }


def judge_text(text: str, truth: Answer, positive: Answer) -> Ratios:
    """An answer as it came: `judge` of its exact reading, `tolerant_…` of its tolerant one, unparsed, and its words."""
    loosely = tolerant(text)
    read = judge(loosely, truth, positive)
    return {
        **judge(exact(text), truth, positive),
        "yes_rate": read["yes_rate"],
        "tolerant_accuracy": read["accuracy"],
        "tolerant_f1": read["f1"],
        "unparsed": rate(loosely is None),
        "inexact": rate(exact(text) is None),
        "words": amount(len(text.split())),
    }
