"""Rows for people: one HTML page with images, prompts, a word diff of chosen and rejected, and token counts."""

import difflib
import io
import itertools
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.rows import Entry
from sightline.files import data_uri, page, write_text
from sightline.types import Example

MAX_SIDE = 480
"""Pixels of the longer side of an image on the page."""
MOST_PAIRS = 1_000_000
"""Pairs of words that are compared to align two texts: some tenths of a second."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row as it is shown.

    error: what is wrong with it. prompt: (role, text with ▣ for images). sides: (name, words with their mark:
    "" common, "only" on this side alone). images: data URIs. tokens: of prompt and responses.
    """

    name: str
    error: str = ""
    prompt: tuple[tuple[str, str], ...] = ()
    sides: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    images: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Texts and counts; images are on the page."""
        return {
            "row": self.name,
            "error": self.error or None,
            "prompt": [{"role": role, "text": text} for role, text in self.prompt],
            "responses": {name: "".join(words for words, _ in side) for name, side in self.sides},
            "pictures": len(self.images),
            "tokens": list(self.tokens),
            "columns": dict(self.columns),
        }


def shown(entry: Entry, renderer: Any = None) -> Shown:
    """A row made ready to show, with token counts by a `render.Renderer`; a bad one as far as it can be read."""
    try:
        example = entry.example()
    except RowError as error:
        return Shown(name=entry.name, error=str(error))
    problem, images, tokens = "", [], ()
    try:
        check_example(example, len(example.responses))
        images = [_data_uri(image) for image in example.images]
        if renderer is not None:
            group = renderer.group(example)
            tokens = (len(group.prompt_ids), *map(len, group.responses))
    except RowError as error:
        problem = str(error)
    return Shown(
        name=entry.name,
        error=problem,
        prompt=tuple((m["role"], text_of(m)) for m in example.prompt),
        sides=_sides(example),
        images=tuple(images),
        tokens=tokens,
        columns=tuple((k, f"{v!r:.200}") for k, v in example.row.items()),
    )


def write_page(path: Path, rows: list[Shown], title: str) -> None:
    """The rows as one HTML file; it appears whole or not at all."""
    write_text(path, page("sightline.data.checks", "show.html.j2", rows=rows, title=title))


def text_of(message: dict[str, Any]) -> str:
    """A message's text, ▣ where an image stands."""
    return "".join("▣ " if p["type"] == "image" else p["text"] for p in message["content"])


def word_diff(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    """`ours` in stretches of words: ("only" for those that `theirs` lacks, "" for common ones), spaces kept.

    What both begin and end with is common. Between, words are aligned; where that would compare more than `MOST_PAIRS`
    pairs of them, a word is common as often as the other side has it, which takes time in proportion to the texts.
    """
    words, others = (re.findall(r"\s*\S+", text) for text in (ours, theirs))
    plain, compared = ([word.strip() for word in side] for side in (words, others))
    start = _num_equal(plain, compared)
    end = _num_equal(plain[start:][::-1], compared[start:][::-1])
    middle, opposite = plain[start : len(plain) - end], compared[start : len(compared) - end]
    is_common = [True] * start + _common(middle, opposite) + [True] * end
    stretches = itertools.groupby(zip(words, is_common, strict=True), key=lambda one: one[1])
    return tuple(("".join(word for word, _ in run), "" if common else "only") for common, run in stretches)


def _num_equal(ours: list[str], theirs: list[str]) -> int:
    """How many words two lists have in common before the first that differ."""
    pairs = enumerate(zip(ours, theirs, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(ours), len(theirs)))


def _common(ours: list[str], theirs: list[str]) -> list[bool]:
    """Of each of our words: whether the other side has it too."""
    if len(ours) * len(theirs) > MOST_PAIRS:
        left = Counter(theirs)
        found = []
        for word in ours:
            found.append(left[word] > 0)
            left[word] -= 1
        return found
    found = [False] * len(ours)
    for block in difflib.SequenceMatcher(None, ours, theirs, autojunk=False).get_matching_blocks():
        found[block.a : block.a + block.size] = [True] * block.size
    return found


def _sides(example: Example) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    texts = ["\n".join(text_of(m) for m in response.messages) for response in example.responses]
    if len(texts) == 2:
        return ("chosen", word_diff(texts[0], texts[1])), ("rejected", word_diff(texts[1], texts[0]))
    names = {None: "response", True: "response, desirable", False: "response, undesirable"}
    return tuple((names[r.label], ((text, ""),)) for r, text in zip(example.responses, texts, strict=True))


def _data_uri(image: Any) -> str:
    small = image.open()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue())
