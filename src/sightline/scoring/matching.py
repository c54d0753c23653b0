"""Does an answer say the same as the truth? Words, yes and no, choices, mathematics, ChartQA's rule; which one fits.

What is compared is what the answer settles on (`scoring.settled`): its `<answer>`, what follows `</think>`, its
`\\boxed{…}`, what follows "the answer is".
"""

import math
import re
from collections.abc import Sequence
from typing import Literal

from sightline.scoring.expressions import CLOSE, OPEN, Expression, canonical, expressions, whole
from sightline.scoring.latex import Reading, readings
from sightline.scoring.letters import chosen_letter, lettered
from sightline.scoring.math_verifier import verifier
from sightline.scoring.number_words import number_in_words
from sightline.scoring.settled import EMPHASIS, bare, final_answer, plain, settled, verdict
from sightline.scoring.yes_no import says_yes

Method = Literal["exact", "yes_no", "numeric", "choice", "relaxed", "math"]

LONGEST = 300
"""Characters of an expression that is read, or ten times as many as the truth has; more is babble."""
ASIDE = re.compile(rf"(?<=\S)\s*\([^()\\{OPEN}{CLOSE}]*[A-Za-z]{{2,}}[^()\\{OPEN}{CLOSE}]*\)")
DENIED = re.compile(r"(?:\bnot|n['’]t|\b(?:instead of|rather than|unlike))\s*(?:equal to\s*)?$", re.IGNORECASE)
DATE = re.compile(r"\d{1,4}([-/.])\d{1,2}\1\d{2,4}")


A_NUMBER = r"[-+−]?\d[\d,.]*\s*%?"
BOUND_BEFORE = re.compile(
    rf"(?:\b(?:(?:more|less|fewer|greater|larger|smaller|higher|lower|longer|shorter) than|over|under|above|below|"
    rf"exceed(?:s|ing)?|between|anywhere from)|\b(?:between|from)\s+{A_NUMBER}\w*\s+(?:and|to)|"
    rf"(?<![\w.,:]){A_NUMBER}\s+(?:to|or))\s*$",
    re.IGNORECASE,
)
"""What makes the number after it a bound: "more than 12", the 12 of "between 10 and 12", "10 to 12", "10 or 12"."""
BOUND_AFTER = re.compile(rf"\s+(?:to|or)\s+{A_NUMBER}(?!\w)", re.IGNORECASE)
"""What makes the number before it one: the 10 of "10 to 12". "At least 12" is what a least number is."""
CHANGE = re.compile(
    r"\b(?:increas|decreas|ris|rose|grew|grow|went|go|chang|drop|f[ae]ll|declin|reduc|mov|turn|jump|shr[aiu]nk)\w*\b"
    r"[^.\n]{0,30}$",
    re.IGNORECASE,
)
"""Before "from 10 to 12", which then comes to 12."""
RATIO = re.compile(rf"{A_NUMBER}(?:\s*[:∶]\s*{A_NUMBER})+")


EXACTLY = 1e-6
"""The tolerance of numbers by default; math-verify's own is about as large."""


def fitting_method(truth: str) -> Method:
    """How answers are compared with this truth: a letter, yes or no, a number, other mathematics, or words."""
    said = bare(truth)
    if lettered(said) is not None:
        return "choice"
    if plain(said) in ("yes", "no", "true", "false"):
        return "yes_no"
    if DATE.fullmatch(said):
        return "exact"
    if to_number(said) is not None:
        return "numeric"
    found = whole(canonical(said))
    return "math" if found is not None and re.search(r"\d|\\[A-Za-z]|[-+*/^=<>√π∞]", found.source) else "exact"


def exact(answer: str, truth: str) -> bool:
    """The same words, of what is settled on: case, white space, emphasis, a leading article and a full stop aside."""
    stated = verdict(EMPHASIS.sub("", final_answer(answer)))
    said = [*settled(answer), *([] if stated is None else stated.strip().splitlines()[:1])]
    return plain(truth) in map(plain, said)


def same_words(answer: str, truth: str) -> bool:
    """The same text: case, white space and a closing full stop aside."""
    said, wanted = (" ".join(text.lower().split()).removesuffix(".").strip() for text in (answer, truth))
    return said == wanted


def yes_no(answer: str, truth: str) -> bool:
    """Both say yes, or both say no (or true and false); the first of these words counts."""
    said = next((read for part in settled(answer) if (read := says_yes(part)) is not None), None)
    return said is not None and said == says_yes(plain(truth))


def choice(answer: str, truth: str) -> bool:
    """The same letter: `B`, `(b)`, `B. 130°`, `The answer is B`, `\\boxed{B}`; or the words that the truth has."""
    wanted = lettered(bare(truth))
    if wanted is None:
        return False
    return chosen_letter(answer) == wanted.letter or (wanted.text != "" and exact(answer, wanted.text))


def relaxed(answer: str, truth: str, *, tolerance: float = 0.05) -> bool:
    """ChartQA's relaxed accuracy (arXiv:2203.10244, §5): numbers within 5%, anything else the same up to case.

    As in the official scorer `20%` is 0.2, and a truth of 0 must be met in words.
    """
    ours, wanted = _percent(answer.strip()), _percent(truth.strip())
    if ours is not None and wanted:
        return abs(ours - wanted) / abs(wanted) <= tolerance
    return answer.strip().lower() == truth.strip().lower()


def numeric(answer: str, truth: str, *, tolerance: float = EXACTLY, seconds: float = 5.0) -> bool:
    """What the answer comes to is the truth's number, within `tolerance` · |truth|; False where the truth is none."""
    return to_number(truth) is not None and bool(mathematical(answer, truth, tolerance=tolerance, seconds=seconds))


def mathematical(answer: str, truth: str, *, tolerance: float = EXACTLY, seconds: float = 5.0) -> bool | None:
    """The last whole expression of the answer is the truth's mathematics; None where the truth is no mathematics.

    Plain numbers are compared as such, within `tolerance` · |truth|; everything else by math-verify, for `seconds` at
    most. 50% is 50 and 0.5. Units are left off.
    """
    wanted = whole_expression(truth)
    if wanted is None:
        return None
    if plain(truth) in map(plain, settled(answer)):
        return True
    if is_ratio := RATIO.fullmatch(wanted.source.strip()) is not None:
        answer = re.sub(r"(?<=\d)\s+to\s+(?=\d)", ":", answer)
    found = settled_expression(answer, as_list=_is_list(wanted.source))
    if found is None or len(found.with_units) > max(LONGEST, 10 * len(wanted.with_units)):
        return False
    if is_ratio or RATIO.fullmatch(found.source.strip()) is not None:
        return _same_ratio(found.source, wanted.source, tolerance)
    return _same(readings(found), readings(wanted), tolerance, seconds)


def _same_ratio(answer: str, truth: str, tolerance: float) -> bool:
    """Two ratios, up to a common factor; one of two numbers is also met by a fraction, but by no other number."""
    ours, wanted = (_parts_of_ratio(text) for text in (answer, truth))
    if len(ours) != len(wanted) or not ours:
        return False
    return all(_close(a * wanted[0], b * ours[0], tolerance) for a, b in zip(ours, wanted, strict=True))


def _parts_of_ratio(text: str) -> list[float]:
    """The numbers of `5 : 1`, `5/1` or `\\frac{5}{1}`; none for anything else, or where one of them is 0."""
    typed = re.sub(r"\\[dt]?frac\s*\{([^{}]*)\}\s*\{([^{}]*)\}", r"\1:\2", text.strip().strip("$")).replace("/", ":")
    if not RATIO.fullmatch(typed.strip()):
        return []
    parts = [to_number(part) for part in re.split("[:∶]", typed)]
    return [part for part in parts if part] if all(parts) else []


def vector(answer: str, truth: Sequence[float], *, tolerance: float = EXACTLY) -> bool:
    """The answer's list of numbers (a box, a point) is the truth's, number by number and in order."""
    for part in settled(answer):
        found = expressions(canonical(part), as_list=True)
        if found:
            said = [float(n.replace("−", "-")) for n in re.findall(r"[-−]?(?:\d+\.?\d*|\.\d+)", found[-1].with_units)]
            return len(said) == len(truth) and all(map(lambda a, t: _close(a, t, tolerance), said, truth))
    return False


def settled_expression(answer: str, *, as_list: bool = False) -> Expression | None:
    """The expression that an answer settles on: its whole box or verdict, the first of its verdict, the last of all.

    as_list: several values may be one answer. A number in words counts where there is no other.
    """
    parts = settled(answer)
    for place, part in enumerate(parts):
        text = canonical(EMPHASIS.sub("", part))
        found = whole(text)
        if found is not None:
            return found
        without_asides = ASIDE.sub(lambda aside: " " * len(aside.group()), text)
        several = [
            one
            for one in (expressions(without_asides, as_list=as_list) or expressions(text, as_list=as_list))
            if not DENIED.search(text[max(0, one.start - 40) : one.start].rstrip()) and not _is_bound(text, one)
        ]
        if several:
            return several[0] if len(parts) > 1 and place == 0 else several[-1]
        in_words = number_in_words(part)
        if in_words is not None:
            return Expression(0, 0, str(in_words), str(in_words))
    return None


def _is_bound(text: str, one: Expression) -> bool:
    """Whether a number is only said to be near the answer, or is one of several."""
    before = BOUND_BEFORE.search(text[: one.start])
    is_range = before is not None or BOUND_AFTER.match(text[one.end :]) is not None
    return is_range and not (before is not None and CHANGE.search(text[: before.start()]))


def value_of(answer: str, *, seconds: float = 5.0) -> float | None:
    """What the last whole expression of an answer comes to as a number; None where it is none."""
    found = settled_expression(answer)
    read = [] if found is None else readings(found)
    if not read:
        return None
    first = read[0]
    if first.value is not None:
        return first.value
    return verifier(seconds).compare([], [first.latex]).answer_values[0]


def to_number(text: str) -> float | None:
    """A text that is a number (with a unit, a currency, separators, as a fraction, in words), as one; else None."""
    found = whole_expression(text)
    read = [] if found is None or "=" in found.source else readings(found)
    return read[0].value if read else None


def whole_expression(text: str) -> Expression | None:
    """The whole text as one expression."""
    found = whole(canonical(bare(text)))
    if found is None:
        in_words = number_in_words(text) if re.fullmatch(r"[A-Za-z\s-]+", text.strip()) else None
        is_all = in_words is not None and plain(text) not in ("", "one") and _only_number_words(text)
        return Expression(0, 0, str(in_words), str(in_words)) if is_all else None
    return found


def _only_number_words(text: str) -> bool:
    return all(number_in_words(word) is not None for word in re.findall(r"[a-z]+", text.lower()) if word != "and")


def _same(answers: Sequence[Reading], truths: Sequence[Reading], tolerance: float, seconds: float) -> bool:
    """Whether any reading of the answer is any of the truth."""
    both_equations = any("=" in a.latex for a in answers) and any("=" in t.latex for t in truths)
    if not both_equations:
        pairs = [(a, t) for a in answers for t in truths if a.value is not None and t.value is not None]
        if any(_equal(a, t, tolerance) for a, t in pairs):
            return True
        if len(pairs) == len(answers) * len(truths):
            return False
    found = verifier(seconds).compare([t.latex for t in truths], [a.latex for a in answers])
    if found.same or both_equations or tolerance <= EXACTLY:
        return bool(found.same)
    answered = [a._replace(value=v) for a, v in zip(answers, found.answer_values, strict=True) if v is not None]
    true = [t._replace(value=v) for t, v in zip(truths, found.truth_values, strict=True) if v is not None]
    return any(_equal(a, t, tolerance) for a in answered for t in true)


def _equal(answer: Reading, truth: Reading, tolerance: float) -> bool:
    """As numbers; a percentage against none is the number before its sign, or that over a hundred."""
    assert answer.value is not None and truth.value is not None
    if _close(answer.value, truth.value, tolerance):
        return True
    if answer.percent == truth.percent:
        return False
    percent, other = (answer.value, truth.value) if answer.percent else (truth.value, answer.value)
    return _close(percent / 100, other, tolerance)


def _close(a: float, b: float, tolerance: float) -> bool:
    return math.isclose(a, b, rel_tol=tolerance, abs_tol=1e-9 if b == 0 else 0.0)


def _is_list(source: str) -> bool:
    """Whether an expression is several: commas outside brackets, or ±."""
    depth = 0
    for character in source:
        depth += (character in "([{⦃") - (character in ")]}⦄")
        if depth == 0 and character == ",":
            return True
    return "±" in source


def _percent(text: str) -> float | None:
    try:
        return float(text.rstrip("%")) / 100 if text.endswith("%") else float(text)
    except ValueError:
        return None
