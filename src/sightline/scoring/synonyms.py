"""Objects that a caption names, by a file of synonyms: one object a line, its other names behind commas."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache


def parse_synonyms(text: str) -> dict[str, str]:
    """Every name, in lower case → its object, the first name of the line. A name of two objects keeps the first."""
    names: dict[str, str] = {}
    for line in text.splitlines():
        words = [word.strip().lower() for word in line.split(",") if word.strip()]
        for word in words:
            names.setdefault(word, words[0])
    return names


def objects_named(caption: str, names: Mapping[str, str]) -> list[str]:
    """The objects that a caption names, in order, repetitions included; the longest name wins ("hot dog" is no dog).

    A name followed by s or es is the same name.
    """
    return [names[name] for name in _pattern(tuple(names)).findall(caption.lower())] if names else []


@lru_cache(maxsize=8)
def _pattern(names: Sequence[str]) -> re.Pattern[str]:
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile(rf"(?<!\w)({'|'.join(map(re.escape, longest_first))})(?:e?s)?(?!\w)")
