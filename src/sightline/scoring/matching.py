"""Does an answer say the same as the truth? Exact, numeric, multiple choice, ChartQA-relaxed; and which of them fits.

An answer may think first: what is compared is the last `<answer>…</answer>`, else what follows `</think>`, else all.
"""

import math
import re
from typing import Literal

Method = Literal["exact", "numeric", "choice", "relaxed", "math"]

ANSWER_TAGS = re.compile(r"<answer>(.*?)</answer>", re.DOTALL)
BOXED = re.compile(r"\\boxed\{([^{}]*)\}")
NUMBER = re.compile(r"[-+−]?(?:(?:\d{1,3}(?:,\d{3})+|\d+)(?:\.\d+)?|\.\d+)(?:[eE][-+]?\d+)?")
CHOICE = re.compile(r"\(?([A-Za-z])[).:]?")
NAMED_CHOICE = re.compile(r"(?:answer|option|choice)\s*(?:is|:)?\s*\(?([A-Z])\b", re.IGNORECASE)
LETTER = re.compile(r"(?<![A-Za-z])\(?([A-Z])(?:\)|[.:]?(?![A-Za-z']))")


def final_answer(text: str) -> str:
    """What the text settles on."""
    tagged = ANSWER_TAGS.findall(text)
    return (tagged[-1] if tagged else text.rpartition("</think>")[2]).strip()


def fitting_method(truth: str) -> Method:
    """How answers are compared with this truth: a letter, a number, a formula, or words."""
    bare = truth.strip()
    if CHOICE.fullmatch(bare):
        return "choice"
    if to_number(bare) is not None:
        return "numeric"
    return "math" if "\\" in bare or "$" in bare else "exact"


def exact(answer: str, truth: str) -> bool:
    """The same words: case, outer white space, runs of white space and a closing full stop aside."""
    return _plain(answer) == _plain(truth)


def numeric(answer: str, truth: str, *, tolerance: float = 1e-6) -> bool:
    """The last number of the answer is the truth's, within `tolerance` · |truth|."""
    wanted = to_number(truth)
    boxed = BOXED.findall(answer)
    found = NUMBER.findall(boxed[-1] if boxed else answer)
    if wanted is None or not found:
        return False
    return math.isclose(_float(found[-1]), wanted, rel_tol=tolerance, abs_tol=1e-9)


def choice(answer: str, truth: str) -> bool:
    """The same letter: `B`, `(b)`, `B. 130°`, `The answer is B`, `\\boxed{B}`; the last one of several."""
    found = CHOICE.fullmatch(truth.strip())
    return found is not None and chosen_letter(answer) == found.group(1).upper()


def chosen_letter(answer: str) -> str | None:
    """The letter that an answer picks, or None."""
    boxed = BOXED.findall(answer)
    bare = (boxed[-1] if boxed else answer).strip().strip("*")
    alone = CHOICE.fullmatch(bare)
    if alone:
        return alone.group(1).upper()
    named = NAMED_CHOICE.findall(bare) or LETTER.findall(bare)
    return named[-1].upper() if named else None


def relaxed(answer: str, truth: str, *, tolerance: float = 0.05) -> bool:
    """ChartQA's relaxed accuracy (arXiv:2203.10244, §5): numbers within 5%, anything else the same up to case.

    As in the official scorer `20%` is 0.2, and a truth of 0 must be met in words.
    """
    ours, wanted = _percent(answer.strip()), _percent(truth.strip())
    if ours is not None and wanted:
        return abs(ours - wanted) / abs(wanted) <= tolerance
    return answer.strip().lower() == truth.strip().lower()


def to_number(text: str) -> float | None:
    """A text that is a number (sign, thousands separators, a unit sign aside), as one; else None."""
    bare = text.strip().strip("$€£°%").strip()
    return _float(bare) if NUMBER.fullmatch(bare) else None


def _float(number: str) -> float:
    return float(number.replace(",", "").replace("−", "-"))


def _percent(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None


def _plain(text: str) -> str:
    return " ".join(text.lower().split()).removesuffix(".").strip()
