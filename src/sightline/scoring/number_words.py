"""Numbers in English words: "three", "twenty-one", "two hundred and five"."""

import re

ONES = {
    "zero": 0, "one": 1, "two": 2, "three": 3, "four": 4, "five": 5, "six": 6, "seven": 7, "eight": 8, "nine": 9,
    "ten": 10, "eleven": 11, "twelve": 12, "thirteen": 13, "fourteen": 14, "fifteen": 15, "sixteen": 16,
    "seventeen": 17,
    "eighteen": 18, "nineteen": 19,
}  # fmt: skip
TENS = {
    "twenty": 20, "thirty": 30, "forty": 40, "fifty": 50, "sixty": 60, "seventy": 70, "eighty": 80, "ninety": 90,
}  # fmt: skip
SCALES = {"hundred": 100, "thousand": 1000, "million": 1_000_000, "billion": 1_000_000_000}
WORDS = {**ONES, **TENS, **SCALES}
PHRASE = re.compile(
    rf"\b(minus |negative )?((?:{'|'.join(WORDS)})(?:(?:[\s-]+|\s+and\s+)(?:{'|'.join(WORDS)}))*)\b", re.IGNORECASE
)
COUNTS = re.compile(r"(?:^|\b(?:is|are|was|were|be|only|exactly|just|answer|of|:|=))\s*$", re.IGNORECASE)


def number_in_words(text: str) -> int | None:
    """The last number of the text that is written in words; None without one.

    "one" counts where it begins the text or follows "is", "only" and the like: "the red one" is no number.
    """
    found = [m for m in PHRASE.finditer(text) if m.group(2).lower() != "one" or COUNTS.search(text[: m.start()])]
    if not found:
        return None
    value = _value(found[-1].group(2))
    return -value if found[-1].group(1) else value


def _value(phrase: str) -> int:
    total = current = 0
    for word in re.findall(r"[a-z]+", phrase.lower()):
        if word == "hundred":
            current = max(1, current) * 100
        elif word in SCALES:
            total, current = total + max(1, current) * SCALES[word], 0
        elif word != "and":
            current += WORDS[word]
    return total + current
