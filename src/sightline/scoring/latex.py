"""One form for mathematics: what `expressions` finds, typed or LaTeX, as LaTeX for math-verify, and as a number."""

import re
from typing import NamedTuple

from sightline.scoring.expressions import CURRENCY, NUMBER, Expression, canonical
from sightline.scoring.settled import closing

SUPERSCRIPTS = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹⁻", "0123456789-")
FRACTIONS = {"½": "1/2", "⅓": "1/3", "⅔": "2/3", "¼": "1/4", "¾": "3/4", "⅕": "1/5", "⅛": "1/8"}
SYMBOLS = {
    "×": r" \times ", "·": r" \cdot ", "∙": r" \cdot ",
    "⋅": r" \cdot ", "÷": "/", "±": r"\pm ",
    "∓": r"\mp ",
    "≤": r"\leq ", "≥": r"\geq ", "≠": r"\neq ", "∈": r"\in ", "∪": r"\cup ",
    "∩": r"\cap ", "π": r"\pi ", "∞": r"\infty ",
    "∅": r"\emptyset ", "∶": ":", "⦃": r"\{", "⦄": r"\}", "−": "-", "–": "-",
}  # fmt: skip
TRIGONOMETRY = re.compile(r"\\(?:sin|cos|tan|cot|sec|csc)(?![A-Za-z])")
DECIMAL = r"[-+]?(?:\d+\.?\d*|\.\d+)"
POWER_OF_TEN = re.compile(rf"({DECIMAL})\s*\\times\s*10\s*\^\s*\{{\s*([-+]?\d+)\s*\}}")
QUOTIENT = re.compile(
    rf"(-?)\s*(?:\\frac\s*\{{\s*({DECIMAL})\s*\}}\s*\{{\s*({DECIMAL})\s*\}}|({DECIMAL})\s*/\s*({DECIMAL}))"
)
MIXED = re.compile(r"(-?)\s*(\d+)\s*\\frac\s*\{\s*(\d+)\s*\}\s*\{\s*(\d+)\s*\}")


class Reading(NamedTuple):
    """One way to read an expression. value: what it is as a number, where it is a plain one. percent: it ends in %."""

    latex: str
    value: float | None
    percent: bool = False


def readings(found: Expression) -> list[Reading]:
    """The ways to read an expression, the likeliest first.

    With and without a unit that could be a variable ("12 m"), a comma as decimal ("0,5"), an exclamation mark as
    punctuation; the last of several equal or nearly equal sides, and all of them.
    """
    sources = [found.source]
    if found.with_units != found.source and re.search(r"\d\s*[A-Za-z](?![A-Za-z])", found.with_units):
        sources.append(found.with_units)
    if found.source.endswith("!"):
        sources.append(found.source.rstrip("!"))
    if re.fullmatch(r"[-+−]?(?!([1-9]\d{0,2}),\d{3}$)\d+,\d+", found.source.strip()):
        sources.insert(0, found.source.replace(",", "."))
    if re.fullmatch(r"[-+−]?\d{1,3}(?:\.\d{3})+,\d+", found.source.strip()):
        sources.insert(0, found.source.replace(".", "").replace(",", "."))
    nearly = [side for side in re.split("≈", found.source) if side.strip()]
    sources = [*nearly, *sources[1:]] if len(nearly) > 1 else sources
    # "< 12" is no number
    return list(dict.fromkeys(reading(source) for source in sources if source.lstrip()[:1] not in "<>≤≥"))


def reading(source: str) -> Reading:
    """An expression as LaTeX and as a number."""
    percent = source.rstrip().endswith("%")
    latex = to_latex(source)
    sides = re.split(r"(?<![<>!\\])=", latex)
    # "x = 5", "3 · 4 = 12": the last side is what it comes to
    return Reading(latex, number(sides[-1]), percent)


def to_latex(source: str) -> str:
    """Typed mathematics and LaTeX of any style as plain LaTeX, without percent signs, currencies and degrees."""
    text = canonical(source)
    text = re.sub(rf"[{re.escape(CURRENCY)}%‰′″\ue000\ue001]", "", text)
    degrees = r"(\d+(?:\.\d+)?)\s*°"
    text = re.sub(degrees, r"(\\frac{\1 π}{180})", text) if TRIGONOMETRY.search(text) else text
    text = re.sub(r"°\s?[CFK]?", "", text)
    text = NUMBER.sub(lambda m: _digits(m, text), text)
    text = re.sub(r"[⁰¹²³⁴⁵⁶⁷⁸⁹⁻]+", lambda m: "^{" + m.group().translate(SUPERSCRIPTS) + "}", text)
    text = _unicode_fractions(text)
    text = re.sub(r"(?<![\d.}])(\d+)\s+(\d+)\s*/\s*(\d+)(?![\d.])", r"\1\\frac{\2}{\3}", text)
    text = _roots(text)
    text = text.replace("**", "^").replace("*", " · ")
    text = re.sub(r"\^\s*\(\s*([^()]*)\)", r"^{\1}", text)
    text = re.sub(r"\^\s*([-−+]?\d+(?:\.\d+)?)", r"^{\1}", text)
    text = _sets(text)
    for symbol, command in SYMBOLS.items():
        text = text.replace(symbol, command)
    text = re.sub(r"\\frac\s*(\d)\s*(\d)(?!\d)", r"\\frac{\1}{\2}", text)
    return re.sub(r"\s+", " ", text).strip()


def number(latex: str) -> float | None:
    """A plain number (decimal, fraction, mixed number, times a power of ten) as one; else None."""
    text = latex.strip().replace("−", "-")
    while text.startswith("{") and closing(text, 0) == len(text) - 1:
        text = text[1:-1].strip()
    text = re.sub(r"^([-+])\s+", r"\1", text)
    if re.fullmatch(DECIMAL, text):
        return float(text)
    found = POWER_OF_TEN.fullmatch(text)
    if found:
        return float(f"{found.group(1)}e{found.group(2)}")
    found = MIXED.fullmatch(text)
    if found and int(found.group(4)):
        value = int(found.group(2)) + int(found.group(3)) / int(found.group(4))
        return -value if found.group(1) else value
    found = QUOTIENT.fullmatch(text)
    if found:
        above, below = (float(part) for part in found.groups()[1:] if part is not None)
        return None if below == 0 else (-1 if found.group(1) else 1) * above / below
    return None


def _digits(found: re.Match[str], text: str) -> str:
    """A number without separators of thousands, and with a power of ten written out. Commas in brackets part a list."""
    digits = found.group()
    before = text[: found.start()]
    depth = sum(before.count(c) for c in "([⦃") - sum(before.count(c) for c in ")]⦄")
    if depth > 0 and "," in digits and "{,}" not in digits:
        return digits
    digits = re.sub(r"(?<=\d)(?:,|\{,\}|[ \u00a0\u202f\u2009'’])(?=\d{3})", "", digits)
    base, e, exponent = re.sub("E", "e", digits).partition("e")
    return f"{base} × 10^{{{exponent.replace('−', '-').lstrip('+')}}}" if e else digits


def _unicode_fractions(text: str) -> str:
    for symbol, typed in FRACTIONS.items():
        above, _, below = typed.partition("/")
        text = text.replace(symbol, rf"\frac{{{above}}}{{{below}}}")
    return text


def _roots(text: str) -> str:
    """√ and a typed `sqrt(…)` as LaTeX's."""
    text = re.sub(r"√\s*(\d+(?:\.\d+)?|[A-Za-z]|π)", r"\\sqrt{\1}", text)
    text = re.sub(r"∛\s*(\d+(?:\.\d+)?|[A-Za-z])", r"\\sqrt[3]{\1}", text)
    text = text.replace("√", r"\sqrt")
    while found := re.search(r"\\sqrt\s*\(", text):
        depth, end = 0, None
        for place in range(found.end() - 1, len(text)):
            depth += (text[place] == "(") - (text[place] == ")")
            if depth == 0:
                end = place
                break
        if end is None:
            return text
        text = f"{text[: found.start()]}\\sqrt{{{text[found.end() : end]}}}{text[end + 1 :]}"
    return text


def _sets(text: str) -> str:
    """Typed braces of a set as LaTeX's; braces that only group are left."""
    place = 0
    while (start := text.find("{", place)) >= 0:
        end = closing(text, start)
        if end is None:
            return text
        before = text[:start].rstrip()
        is_argument = bool(re.search(r"[\^_}\]]$|\\[A-Za-z]+$", before)) and not before.endswith(("∪", "∩"))
        if not is_argument and "," in text[start:end]:
            text = f"{text[:start]}⦃{text[start + 1 : end]}⦄{text[end + 1 :]}"
            place = start + 1
        else:
            place = end + 1
    return text
