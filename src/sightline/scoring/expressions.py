"""The mathematics in a text: whole expressions, in LaTeX or typed, with or without `$`.

An expression is the longest stretch that is mathematics throughout: "3" is no expression of "2\\sqrt{3}", "12 cm^3",
"3 000" or "H3O". Words and the ends of sentences end it. Units and currencies belong to it and are left off. Left out:
mathematics in words (`number_words` reads "twenty-three").
"""

import re
import unicodedata
from itertools import pairwise
from typing import NamedTuple

from sightline.scoring.settled import STYLED, closing

DELIMITED = re.compile(
    r"\$\$(?P<a>.+?)\$\$|\\\[(?P<b>.+?)\\\]|\\\((?P<c>.+?)\\\)|(?<![\\\d])\$(?P<d>(?:\\\$|[^$\n])+?)(?<!\\)\$(?!\d)",
    re.DOTALL,
)
OPEN, CLOSE = "\ue000", "\ue001"
"""Stand for the delimiters of mathematics."""
AS_SYMBOLS = {
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "leq": "≤", "le": "≤", "leqslant": "≤", "geq": "≥",
    "ge": "≥", "geqslant": "≥", "neq": "≠", "ne": "≠", "approx": "≈", "in": "∈", "cup": "∪", "cap": "∩", "lt": "<",
    "gt": ">", "pi": "π", "infty": "∞", "degree": "°", "colon": ":", "lvert": "|", "rvert": "|", "vert": "|",
    "left": "", "right": "", "quad": " ", "qquad": " ", "displaystyle": "", "limits": "", "big": "", "Big": "",
    "lbrace": "⦃", "rbrace": "⦄", "lbrack": "[", "rbrack": "]", "dfrac": r"\frac", "tfrac": r"\frac", "cfrac": r"\frac",
}  # fmt: skip
ESCAPES = {
    "{": "⦃",
    "}": "⦄",
    "%": "%",
    "$": "$",
    ",": "\u2009",
    ";": " ",
    ":": " ",
    "!": "",
    " ": " ",
    "|": "|",
    "#": "#",
}
COMMAND = re.compile(r"\\[A-Za-z]+")
ENVIRONMENT = re.compile(r"\\begin\s*\{(\w+\*?)\}.*?\\end\s*\{\1\}", re.DOTALL)
NUMBER = re.compile(
    r"(?:[1-9]\d{0,2}(?:(?:,|\{,\}|[ \u00a0\u202f\u2009'’])\d{3})+(?!\d)|\d+)(?:\.\d+)?(?:[eE][-+−]?\d+(?![A-Za-z\d]))?"
    r"|\.\d+(?:[eE][-+−]?\d+(?![A-Za-z\d]))?"
)
OPENING, CLOSING = "([{⦃", ")]}⦄"
OPERATORS = "+-−–*/^_=<>≤≥≠≈×÷·∙⋅±∓∈∪∩√∛∶"
NEAR = 40
"""Characters before or after a token that may say what it is."""
STARTS = "-−–±√∛<>≤≥"
"""Operators that may begin an expression; "< 12" is none that anything equals."""
VALUES = "%‰|π∞∅²³¹⁰⁴⁵⁶⁷⁸⁹½⅓⅔¼¾⅕⅛°′″!"
SPACES = " \t\u00a0\u202f\u2009~"
CURRENCY = "$€£¥₹₩"
IS_VALUE = re.compile(r"\d|\\[A-Za-z]|[√∛π∞∅½⅓⅔¼¾⅕⅛²³]|[^\W\d_)]\s*[-+*/^=<>·×±≤≥]\s*(?:[^\W\d_]|[({])")
FUNCTION = re.compile(r"(?:sqrt|sin|cos|tan|cot|sec|csc|log|ln|exp|pi|infinity|inf)(?![A-Za-z])")
WORD = re.compile(r"[^\W\d_²³¹⁰⁴-⁹½⅓⅔¼¾⅕⅛π∞∅]+")
UNIT = (
    r"(?:(?:milli|centi|deci|kilo|micro|nano|mega|giga)?(?:met(?:er|re)s?|grams?|lit(?:er|re)s?|watts?|volts?|hertz|"
    r"joules?|newtons?|pascals?|amperes?|amps?|bytes?|seconds?)|mm|cm|dm|km|nm|μm|um|mg|kg|ml|mL|cl|dl|ms|min(?:ute)?s?|"
    r"secs?|hours?|hrs?|hr|h|days?|weeks?|months?|years?|yrs?|inch(?:es)?|in|feet|foot|ft|yards?|yds?|yd|miles?|mi|mph|"
    r"kmh|kph|acres?|hectares?|ha|pounds?|lbs?|lb|ounces?|oz|tons?|tonnes?|degrees?|deg|radians?|rad|Hz|kHz|MHz|GHz|kW|"
    r"MW|kWh|kJ|kN|kPa|MPa|Pa|mol|moles?|ohms?|Ω|units?|sq|points?|dollars?|cents?|euros?|USD|EUR|GBP|°\s?[CFK]|[CFK]|"
    r"[mgsLlNJWVAtTM])"
)
POWERED = rf"(?:(?:square|cubic|sq\.?|cu\.?)\s+)?{UNIT}(?:\s?\^\s?(?:\{{\s?-?\d\s?\}}|-?\d)|[²³])?(?![^\W_]|\s?[=^])"
UNITS = re.compile(rf"{POWERED}(?:\s?(?:/|\bper\b|·)\s?{POWERED})*")
SCALES = {"hundred": 2, "thousand": 3, "million": 6, "billion": 9, "trillion": 12}
PERCENT = re.compile(r"(?:percent(?:age)?(?:\s+points?)?|pct|per\s?cent)(?![A-Za-z])", re.IGNORECASE)
BESIDE = re.compile(r"[=*/^<>≤≥≠≈±+∈·×²³]|[-−–]\s*[\dA-Za-z\\(]")
"""What follows a variable; a unit is followed by words."""
POWER = re.compile(r"\s*(?:\^\s*(?:\{\s*-?\d\s*\}|-?\d)|[²³])?")


class Token(NamedTuple):
    """A piece of an expression. source: what it counts as; empty for a unit."""

    start: int
    end: int
    source: str
    kind: str  # value, letter, operator, open, close, joint, unit


class Expression(NamedTuple):
    """A stretch of `canonical` text that is mathematics. source: without units. with_units: as it is written."""

    start: int
    end: int
    source: str
    with_units: str


def canonical(text: str) -> str:
    """Symbols for LaTeX's commands that stand for one, private characters for the delimiters of mathematics.

    A price is no delimiter: "$5 and $6".
    """
    text = unicodedata.normalize("NFC", text)

    def mark(found: re.Match[str]) -> str:
        inside = next(group for group in found.groups() if group is not None)
        words = STYLED.sub("", COMMAND.sub("", inside))
        is_price = found.group("d") is not None and re.search(r"[A-Za-z]{4,}|\d\s+[A-Za-z]{2,}", words)
        return found.group() if is_price else f"{OPEN}{inside.strip()}{CLOSE}"

    text = DELIMITED.sub(mark, re.sub(r"[-=]+>|[→⇒⟹]", " ", text))
    text = re.sub(r"\^\s*\{?\s*\\circ(?![A-Za-z])\s*\}?", "°", text)
    text = re.sub(r"\\([A-Za-z]+)", lambda m: AS_SYMBOLS.get(m.group(1), m.group()), text)
    return re.sub(r"\\([{}%$,;:! |])", lambda m: ESCAPES[m.group(1)], text)


def expressions(text: str, *, as_list: bool = False) -> list[Expression]:
    """All whole expressions of a `canonical` text, in order.

    as_list: commas, "and" and "or" join them: "1, 2 or 3" is one.
    """
    bullets = re.compile(r"(?m)^\s*(?:[-*•]|\d+[.)])\s+(?=\S)")
    if "\n" in text.strip():
        text = bullets.sub(lambda m: " " * len(m.group()), text)
    return _Scanner(text, as_list).scan()


def whole(text: str, *, as_list: bool = True) -> Expression | None:
    """The `canonical` text as one expression; None where it is more, or none."""
    found = _Scanner(text, as_list).scan()
    if len(found) != 1:
        return None
    before, behind = text[: found[0].start], text[found[0].end :]
    before = re.sub(r"^\s*[^\W\d_][\w\s∠△°]*=", "", before)  # the name of a quantity: "AB = 5"
    return None if re.sub(rf"[\s.,;:!*=+≈~{re.escape(CURRENCY)}{OPEN}{CLOSE}]", "", before + behind) else found[0]


class _Scanner:
    """One pass over a text; `run` is the expression being read."""

    def __init__(self, text: str, as_list: bool) -> None:
        self.text, self.as_list = text, as_list
        self.place = 0
        self.run: list[Token] = []

    def scan(self) -> list[Expression]:
        found = []
        while self.place < len(self.text):
            if not self._step():
                found += self._finish()
        found += self._finish()
        return [one for one in found if IS_VALUE.search(one.source)]

    def _step(self) -> bool:
        """Read the next token; False where the expression ends."""
        text, place = self.text, self.place
        character = text[place]
        if character in SPACES:
            self.place += 1
            return True
        if character == OPEN:
            return self._group(text.find(CLOSE, place))
        if character == "\\":
            return self._command()
        number = NUMBER.match(text, place)
        if number:
            return self._number(number.end())
        if character in OPERATORS:
            return self._operator(character)
        if character in OPENING + CLOSING:
            return self._bracket(character)
        if character in VALUES and (character != "!" or self._attached):
            return self._take(place + 1, "value")
        return self._word() if character.isalpha() else self._punctuation(character)

    def _bracket(self, character: str) -> bool:
        if character in CLOSING:
            return self._take(self.place + 1, "close")
        is_argument = character == "{" and self._kind == "operator" and self._last in "^_"
        close = closing(self.text, self.place) if is_argument else None
        return self._take(self.place + 1, "open") if close is None else self._take(close + 1, "value")

    def _take(self, end: int, kind: str, source: str | None = None) -> bool:
        self.run.append(Token(self.place, end, self.text[self.place : end] if source is None else source, kind))
        self.place = end
        return True

    @property
    def _attached(self) -> bool:
        """Whether the expression reaches to here without a space."""
        return bool(self.run) and self.run[-1].end == self.place

    @property
    def _kind(self) -> str:
        return self.run[-1].kind if self.run else ""

    @property
    def _last(self) -> str:
        """The last character of the expression."""
        return self.run[-1].source[-1:] if self.run else ""

    @property
    def _after_value(self) -> bool:
        return self._kind in ("value", "letter", "close", "unit")

    @property
    def _depth(self) -> int:
        return sum((token.kind == "open") - (token.kind == "close") for token in self.run)

    def _group(self, end: int) -> bool:
        """Mathematics between delimiters: one value, units inside left off."""
        inside = self.text[self.place + 1 : end]
        found = whole(inside)
        return self._take(end + 1, "value", inside if found is None else found.source)

    def _command(self) -> bool:
        """A command with its arguments; words in `\\text{…}` may be a unit or join a list."""
        text = self.text
        environment = ENVIRONMENT.match(text, self.place)
        if environment:
            return self._take(environment.end(), "value")
        found = COMMAND.match(text, self.place)
        if found is None:
            self.place += 1
            return False
        styled = STYLED.match(text, self.place)
        if styled:
            inside = styled.group(1).strip(" .,")
            power = POWER.match(text, styled.end())
            assert power is not None
            if inside in ("and", "or"):
                return self._take(styled.end(), "joint", ",")
            if PERCENT.fullmatch(inside):
                return self._take(styled.end(), "value", "%")
            if self._after_value and (UNITS.fullmatch(inside) or re.fullmatch(r"[A-Za-z. ]{2,}", inside)):
                return self._take(power.end(), "unit", "")
            return self._take(styled.end(), "value")
        end = found.end()
        while (argument := re.compile(r"\s*([{\[])").match(text, end)) is not None:
            start = argument.end() - 1
            close = closing(text, start) if argument.group(1) == "{" else text.find("]", start)
            if close is None or close < 0 or (argument.group(1) == "[" and found.group() != r"\sqrt"):
                break
            end = close + 1
        return self._take(end, "value")

    def _number(self, end: int) -> bool:
        behind = re.search(r"[^\W\d_]+[-_.]?$", self.text[max(0, self.place - NEAR) : self.place])
        if behind and not self._attached:
            # of a name: "H2O", "covid-19"
            self.place = re.compile(r"\w+").match(self.text, self.place).end()  # pyright: ignore[reportOptionalMemberAccess]
            return False
        return self._take(end, "value")

    def _operator(self, character: str) -> bool:
        before = self.text[self.place - 1 : self.place] if self.place else ""
        if character in "-–−*_" and not self._attached and before.isalpha():
            # a hyphen, or emphasis
            self.place += 1
            return False
        return self._take(self.place + 1, "operator")

    def _word(self) -> bool:
        text, place = self.text, self.place
        found = WORD.match(text, place)
        assert found is not None
        word, end = found.group(), found.end()
        ahead = text[end : end + NEAR].lstrip(SPACES)
        if self._after_value and self._belongs_to_value(word, ahead, end):
            return True
        if word in ("x", "X") and self._last.isdigit() and re.match(r"\d", ahead):
            return self._take(end, "operator", "×")
        if word.lower() in ("minus", "negative") and re.match(r"[\d.]", ahead):
            return self._take(end, "operator", "-")
        if FUNCTION.fullmatch(word) and (self.run or re.match(r"[({\\\d√^*/.,;]|$", ahead)):
            return self._take(end, "value", {"pi": "π", "inf": "∞", "infinity": "∞"}.get(word, rf"\{word}"))
        if self.as_list and word in ("and", "or") and self._after_value:
            return self._take(end, "joint", ",")
        if len(word) == 1 and self._joins(word, ahead, end):
            return self._take(end, "letter")
        if len(word) <= 3 and ((self._attached and self._after_value) or text[end : end + 1] in ("^", "_")):
            return self._take(end, "letter")
        self.place = end
        return False

    def _belongs_to_value(self, word: str, ahead: str, end: int) -> bool:
        """Read a unit, "percent", "million" or the end of an ordinal after a value."""
        units, percent = UNITS.match(self.text, self.place), PERCENT.match(self.text, self.place)
        if percent:
            return self._take(percent.end(), "value", "%")
        if self._last.isdigit() and word.lower() in SCALES:
            return self._take(end, "value", f" × 10^{{{SCALES[word.lower()]}}}")
        if units and not (units.end() == end == self.place + 1 and BESIDE.match(ahead)):
            return self._take(units.end(), "unit", "")
        is_ordinal = self._attached and self._last.isdigit() and word in ("st", "nd", "rd", "th")
        return is_ordinal and self._take(end, "unit", "")

    def _joins(self, word: str, ahead: str, end: int) -> bool:
        """Whether a lone letter is a variable: attached or beside an operator; an article or a pronoun is none."""
        following = self.text[end : end + 1]
        if word in "aAI" and following == " " and re.match(r"[A-Za-z]{2,}", ahead):
            return False
        behind = self._attached or self._kind in ("operator", "open", "joint")
        product = self._after_value and word not in "aAI" and re.match(r"[^\W_]", ahead) is None
        return behind or product or BESIDE.match(ahead) is not None or following in ("(", "\\", "²", "³", "√")

    def _punctuation(self, character: str) -> bool:
        """Commas of lists, colons of ratios, currencies; all else ends the expression."""
        rest = self.text[self.place + 1 : self.place + NEAR]
        if character in ",;" and self._after_value:
            decimal = self._attached and self._last.isdigit() and rest[:1].isdigit()
            if self._depth > 0 or self.as_list or decimal:
                return self._take(self.place + 1, "joint", ",")
        if character == ":" and self._last.isdigit() and re.match(r"\s?\d", rest):
            return self._take(self.place + 1, "operator")
        self.place += 1
        return character in CURRENCY and bool(self.run)

    def _finish(self) -> list[Expression]:
        """What was read, cut where brackets do not match, without operators that lead nowhere."""
        run, self.run = self.run, []
        found = []
        start = 0
        for cut in [*_unbalanced(run), len(run)]:
            part, start = _trimmed(run[start:cut]), cut + 1
            if part:
                begin, end = part[0].start, part[-1].end
                with_units = re.sub(rf"[{OPEN}{CLOSE}]", "", self.text[begin:end])
                found.append(Expression(begin, end, _joined(part), with_units))
        return found


def _joined(part: list[Token]) -> str:
    """The tokens, with a space where there was one."""
    gaps = [" " if behind.end < token.start else "" for behind, token in pairwise(part)]
    return re.sub(
        r"\s+", " ", "".join(gap + token.source for gap, token in zip(["", *gaps], part, strict=True))
    ).strip()


def _trimmed(part: list[Token]) -> list[Token]:
    """Without what can neither begin nor end an expression."""
    start, end = 0, len(part)
    while start < end and (part[start].kind in ("joint", "unit") or _leads_nowhere(part[start])):
        start += 1
    while end > start and part[end - 1].kind in ("joint", "operator"):
        end -= 1
    return part[start:end]


def _leads_nowhere(token: Token) -> bool:
    return token.kind == "operator" and token.source not in STARTS


def _unbalanced(run: list[Token]) -> list[int]:
    """The places of brackets without a partner; those of half-open intervals are partners."""
    opened: list[int] = []
    lone: list[int] = []
    for place, token in enumerate(run):
        if token.kind == "open":
            opened.append(place)
        elif token.kind == "close":
            if opened:
                opened.pop()
            else:
                lone.append(place)
    return sorted([*lone, *opened])
