"""The letter of a choice that an answer picks, by the patterns that VLMEvalKit's and lmms-eval's rules share.

A letter in brackets or before a full stop, after "the answer is" or "option", alone; not the article "A", the pronoun
"I", a letter that is denied ("not B", "B is wrong"), nor one of several that are left.
"""

import re
import unicodedata
from collections.abc import Iterator
from typing import NamedTuple

from sightline.scoring.settled import DENIED, boxed, final_answer, verdict
from sightline.scoring.settled import bare as without_style

LETTERS = "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
LATIN = "A-Za-zÀ-ÖØ-öø-ɏͰ-ϿЀ-ӿ"
NEAR = 80
"""Characters before a letter that may deny it."""
ALONE = re.compile(r"[^\w+\-−]*([A-Za-z])[^\w+\-−%°]*")
LETTERED = re.compile(r"(?:\(([A-Za-z])\)|([A-H])[.:)])\s+(\S.*)", re.DOTALL)
HEAD = re.compile(
    rf"(?P<open>[(\[{{]\s*)?(?P<letter>[A-Za-z])(?P<close>\s*[)\]}}])?(?![{LATIN}\d°'’_=]|-[{LATIN}])(?P<mark>[.:,;)!\"”]|\s*[-–—]\s|\s*$|\s*\n)?"
)
LEADS_IN = re.compile(
    r"[\s*:：\"'“]*(?:(?:the|la|le|die|der|option|choice|letter|alternative|answer|image|figure|image|opción|选项|probably|likely|"
    r"most|clearly|definitely|certainly|indeed|therefore|thus|simply|just|number|in|either)[\s*:]+)*",
    re.IGNORECASE,
)
BECAUSE = (
    r"because|since|as|for|due|but|not|with|which|is|was|given|rather|instead|though|although|according|based|from|here|"
    r"and|or|if|by|in|on|looks?|seems?|matches|shows?|fits|has|correctly|would|must|at"
)
JOINED = re.compile(rf"\s*(?:,|/|&|and|or)\s*(?:both\s+)?[(\[]?([A-Z])[)\]]?(?![{LATIN}\d])")
IS_WRONG = re.compile(
    r"[)\]}.:]?\s*(?:(?:is|are|was|seems?|looks?|would be|can(?:not)? be|could be|must be|,)\s+)?"
    r"(?:also\s+|clearly\s+|too\s+)?"
    r"(?:not\b|n['’]t\b|wrong|incorrect|false|eliminated|ruled out|excluded|out\b|impossible|unlikely)",
    re.IGNORECASE,
)
DENIED_BEFORE = re.compile(
    r"(?:\bnot|n['’]t(?: be)?|\bnor|\bneither|\bthan|\binstead of|\bunlike|\bexclud\w+|\beliminat\w+|\brul\w+ out|"
    r"\breject\w*|\bdiscard\w*|\bwithout|\bexcept)\s+(?:the\s+)?(?:options?|choices?|letters?|answers?)?\s*"
    r"(?:[(\[]?[A-Z][)\]]?\s*(?:,|and\b|or\b)\s*)*[(\[*]?$",
    re.IGNORECASE,
)
PICKED = re.compile(
    r"\b(?:choose|chose|choosing|pick(?:ed|ing)?|select(?:ed|ing)?|go(?:ing)? with|opt(?:ing)? for|vote for|"
    r"answer with|"
    r"(?:it|this|that)(?:['’]s| is| must be| should be)|(?:must|should|would) be|i(?:['’]d)? say|i guess|guess|"
    r"(?:correct|right|best) (?:one|option|choice|letter)(?: is|:)|(?:option|choice)(?: is|:)|"
    r"corresponds? to|matches|选择?|应该?是)\s*(?=\S)",
    re.IGNORECASE,
)
IS_RIGHT = re.compile(
    rf"(?<![{LATIN}\d'’])[(\[]?([A-Z])[)\]]?\s+(?:is|must be|seems|appears to be|would be|looks)\s+(?:the\s+)?"
    r"(?:most\s+|clearly\s+|only\s+)*"
    r"(?:correct|right|best|true|answer|accurate|appropriate|likely|one|choice|option)"
)
NAMED = re.compile(
    rf"\b(?:option|choice|letter|answer|alternative|选项)\s*[(\[*\"]?([A-Z])(?![{LATIN}\d'’])", re.IGNORECASE
)
CONCLUSION = re.compile(r"(?:^|[\s,;:.])(?:so|thus|therefore|hence|→|=>|⇒)\s*[:,]?\s*(?=\S)", re.IGNORECASE)
STANDING = re.compile(
    rf"(?<![{LATIN}\d'’°$\\])(?P<open>[(\[])?(?P<letter>[A-Z])(?P<close>[)\]])?(?![{LATIN}\d'’°=_]|-[{LATIN}])"
)
NAMED_SO = re.compile(
    r"(?:\b(?:vitamins?|hepatitis|influenza|flu|hemoglobin|immunoglobulin|coenzyme|protein|factor|blood (?:group|type)|"
    r"type|grade|grade of|plan|programming language|language|appendix|schedule|minor|major)\s+|\d\s*)$",
    re.IGNORECASE,
)
"""Before a letter that is part of a name or a unit: vitamin D, hepatitis B, 25 C."""
NAMES_SO = re.compile(
    r"[\s-]+(?:deficienc\w+|programming|language|compiler|virus|vitamins?|cells?|minor|major|flat|sharp|student|average|"
    r"personality)\b",
    re.IGNORECASE,
)
"""After one: the C programming language."""
ORDINALS = {
    word: place
    for place, words in enumerate(
        ("first 1st", "second 2nd", "third 3rd", "fourth 4th", "fifth 5th", "sixth 6th", "seventh 7th", "eighth 8th")
    )
    for word in words.split()
}
ORDINAL = re.compile(
    rf"\b({'|'.join(ORDINALS)}|last)\s+(?:option|choice|answer|alternative|one)\b|\b(?:option|choice)\s+(?:number\s+|no\.\s*|#)?(\d)\b",
    re.IGNORECASE,
)


class Lettered(NamedTuple):
    """A truth that is a letter, and the words after it where there are some: `(C) red`."""

    letter: str
    text: str


def lettered(truth: str) -> Lettered | None:
    """The letter of a truth such as `C`, `(c)`, `C.`, `C: red`; None where it is none."""
    said = unicodedata.normalize("NFKC", truth).strip()
    alone = ALONE.fullmatch(said)
    if alone:
        return Lettered(alone.group(1).upper(), "")
    found = LETTERED.fullmatch(said)
    return Lettered((found.group(1) or found.group(2)).upper(), found.group(3).strip()) if found else None


def chosen_letter(answer: str, letters: str = LETTERS) -> str | None:
    """The letter that an answer picks, of those that there are; None where it picks none, or several."""
    said = unicodedata.normalize("NFKC", final_answer(answer))
    inside = boxed(said)
    text = without_style(said if inside is None else inside)
    text = re.sub(r"\\[()\[\]]|\$", " ", text).strip()
    alone = ALONE.fullmatch(text)
    if alone:
        letter = alone.group(1).upper()
        return letter if letter in letters else None
    stated = verdict(text)
    if stated is not None:
        letter = _head(stated, letters)
        if letter is not None:
            return letter
    for found in (_leading(text, letters), _picked(text, letters), _only_one(text, letters), _by_place(text, letters)):
        if found is not None:
            return found
    return None


def _head(text: str, letters: str, *, marked: bool = False) -> str | None:
    """The letter that a text begins with. marked: only in brackets or before punctuation."""
    lead = LEADS_IN.match(text)
    rest = text[lead.end() :] if lead else text
    found = HEAD.match(rest)
    if found is None or DENIED.match(rest) or found.group("letter").upper() not in letters:
        return None
    letter, behind = found.group("letter"), rest[found.end("letter") :]
    bracketed = found.group("close") is not None
    if IS_WRONG.match(behind) and not re.match(r"[)\]]?\s*,\s*not\b|[)\]]?[,.]?\s*not\b", behind):
        return None
    if JOINED.match(rest[found.end("close") if bracketed else found.end("letter") :]):
        return None
    if bracketed or found.group("mark") is not None:
        return letter.upper()
    following = re.match(r"\s+(\S+)", behind)
    links = following is None or re.match(rf"(?:{BECAUSE})\b|[(\"“=]", following.group(1), re.IGNORECASE) is not None
    is_plain = letter.isupper() and letter not in "AI"
    return letter.upper() if not marked and (links or is_plain) and (letter.isupper() or links) else None


def _leading(text: str, letters: str) -> str | None:
    """The letter that the answer begins with, unless it goes on to list others likewise."""
    first = _head(text, letters, marked=True)
    if first is None:
        return None
    others = re.findall(rf"(?:^|[\s,;])(?:\(([A-Z])\)|([A-Z])[.:)])(?=\s|$)(?!{IS_WRONG.pattern})", text, re.MULTILINE)
    listed = list(dict.fromkeys([first, *(a or b for a, b in others if (a or b) in letters)]))
    is_list = len(listed) > 1 and "".join(listed) in letters
    return None if is_list and not _explains(text) else first


def _explains(text: str) -> bool:
    """Whether the first line is the answer alone and what follows explains."""
    head = text.splitlines()[0].strip()
    return len(text.splitlines()) > 1 and ALONE.fullmatch(head) is not None


def _picked(text: str, letters: str) -> str | None:
    """ "I choose C", "C is right", "so C": the last of these."""
    for kind in (_picks(text, letters, PICKED), _rights(text, letters), _picks(text, letters, CONCLUSION)):
        found = list(kind)
        if found:
            return found[-1] if len(set(found)) == 1 else None
    return None


def _picks(text: str, letters: str, lead: re.Pattern[str]) -> Iterator[str]:
    for found in lead.finditer(text):
        letter = _head(text[found.end() :], letters)
        if letter is not None and not _denies(text[: found.end()].rstrip() + " "):
            yield letter


def _rights(text: str, letters: str) -> Iterator[str]:
    for found in IS_RIGHT.finditer(text):
        is_name = _is_name(text, found.start(1), found.end(1))
        if found.group(1) in letters and not is_name and not _denies(text[: found.start(1)]):
            yield found.group(1)


def _only_one(text: str, letters: str) -> str | None:
    """The only letter that stands as a choice and is not denied: those named as options first, then any."""
    named = {
        found.group(1).upper()
        for found in NAMED.finditer(text)
        if (found.group(1).isupper() and not _is_article(text, found.start(1), found.end(1)))
        and not _is_denied(text, found.start(), found.start(1), found.end(1))
    }
    if named:
        return next(iter(named)) if len(named) == 1 and named <= set(letters) else None
    standing = {
        found.group("letter")
        for found in STANDING.finditer(text)
        if (found.group("close") or not _is_article(text, found.start("letter"), found.end("letter")))
        and not _is_name(text, found.start("letter"), found.end("letter"))
        and not _is_denied(text, found.start(), found.start("letter"), found.end("letter"))
    }
    standing &= set(letters)
    return next(iter(standing)) if len(standing) == 1 else None


def _is_article(text: str, start: int, end: int) -> bool:
    """Whether "A" or "I" is a word of the sentence."""
    return text[start:end] in ("A", "I") and re.match(rf"\s+(?!(?:{BECAUSE})\b)[{LATIN}]", text[end:]) is not None


def _is_name(text: str, start: int, end: int) -> bool:
    """Whether the letter is part of a name: vitamin D."""
    return NAMED_SO.search(text[max(0, start - NEAR) : start]) is not None or NAMES_SO.match(text[end:]) is not None


def _denies(before: str) -> bool:
    return DENIED_BEFORE.search(before[-NEAR:]) is not None


def _is_denied(text: str, start: int, letter: int, end: int) -> bool:
    return (
        _denies(text[:letter])
        or _denies(text[:start])
        or (IS_WRONG.match(text[end:]) is not None and not re.match(r"[)\]]?,?\s*not\b", text[end:]))
    )


def _by_place(text: str, letters: str) -> str | None:
    """ "The third option", "option 3", "the last choice"."""
    places = set()
    for found in ORDINAL.finditer(text):
        if _denies(text[: found.start()]):
            continue
        word, digit = (found.group(1) or "").lower(), found.group(2)
        if word == "last" and letters == LETTERS:
            continue
        places.add(len(letters) - 1 if word == "last" else int(digit) - 1 if digit else ORDINALS[word])
    place = next(iter(places)) if len(places) == 1 else -1
    return letters[place] if 0 <= place < len(letters) else None
