"""Objects that a caption names, by a file of names: one object a line, its other names after commas.

A name is found as whole words, whatever their case, in the plural too ("knives", "two women", "cups of tea"), and the
longest name wins: "hot dog" is no dog.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

from sightline.scoring.nouns import forms

TOKEN = re.compile(r"\w+|[^\w\s\-‐]")
BEHIND_THE_NOUN = frozenset({"of", "in", "with", "on", "for", "by", "at", "and"})
"""After these the first word of a name is the one that has a plural: "cups of tea", "mothers-in-law"."""
NO_SINGULAR = frozenset({"glasses", "sunglasses", "shorts", "news", "clothes", "goods", "arms", "customs", "woods"})
"""Without their s they are other things."""


class Named(NamedTuple):
    """A part of a text, as it is written there, that names an object."""

    text: str
    object: str


@dataclass(frozen=True)
class Names:
    """Names of objects. objects: every name → its object, the first name of its line; all in lower case."""

    objects: Mapping[str, str]

    @classmethod
    def parse(cls, text: str) -> "Names":
        """From the lines of a file. A name of two objects keeps the first."""
        objects: dict[str, str] = {}
        for line in text.splitlines():
            words = [word.strip().lower() for word in line.split(",") if word.strip()]
            for word in words:
                objects.setdefault(word, words[0])
        return cls(objects)

    def including(self, names: Iterable[str]) -> "Names":
        """With objects besides, each called by its own name; those that have one already are left alone."""
        new = {name.lower(): name.lower() for name in names if self.object_of(name) is None}
        return Names({**self.objects, **new}) if new else self

    def object_of(self, name: str) -> str | None:
        """The object of a name, which may be a plural; None where it is no whole name."""
        return self._object(words_of(name))

    def named(self, text: str) -> list[Named]:
        """What a text names, in order, repetitions included."""
        return list(self._found(text))

    def in_text(self, text: str) -> list[str]:
        """The objects that a text names, in order, repetitions included."""
        return [one.object for one in self._found(text)]

    def _found(self, text: str) -> Iterator[Named]:
        spans = [token.span() for token in TOKEN.finditer(text)]
        words = [text[start:end].lower() for start, end in spans]
        place = 0
        while place < len(words):
            for length in range(min(self._longest, len(words) - place), 0, -1):
                thing = self._object(tuple(words[place : place + length]))
                if thing is not None:
                    yield Named(text[spans[place][0] : spans[place + length - 1][1]], thing)
                    place += length
                    break
            else:
                place += 1

    def _object(self, words: tuple[str, ...]) -> str | None:
        if not words:
            return None
        noun = 0 if len(words) > 1 and words[1] in BEHIND_THE_NOUN else len(words) - 1
        candidates = ((*words[:noun], form, *words[noun + 1 :]) for form in forms(words[noun]))
        return next((self._by_words[c] for c in candidates if c in self._by_words), None)

    @cached_property
    def _by_words(self) -> dict[tuple[str, ...], str]:
        """The words of every name → its object; of a name in the plural those in the singular, too."""
        known = {words_of(name): thing for name, thing in self.objects.items() if words_of(name)}
        for words, thing in list(known.items()):
            if words[-1] not in NO_SINGULAR and not words[-1].endswith("ss"):
                for form in forms(words[-1]):
                    known.setdefault((*words[:-1], form), thing)
        return known

    @cached_property
    def _longest(self) -> int:
        return max(map(len, self._by_words), default=0)


def words_of(name: str) -> tuple[str, ...]:
    """The words of a name in lower case; a hyphen parts them."""
    return tuple(token.lower() for token in TOKEN.findall(name))
