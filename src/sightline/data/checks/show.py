"""Rows for people: one HTML page with images, prompts, a word diff of chosen and rejected, and token counts."""

import io
import itertools
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.rows import Entry
from sightline.files import data_uri, page, write_text
from sightline.scoring.word_diff import common_words
from sightline.types import Example

MAX_SIDE = 480
"""Pixels of the longer side of an image on the page."""


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
            "images": len(self.images),
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
    """`ours` in stretches of words: ("only" for those that `theirs` lacks, "" for common ones), spaces kept."""
    words, others = (re.findall(r"\s*\S+", text) for text in (ours, theirs))
    plain, compared = ([word.strip() for word in side] for side in (words, others))
    is_common = common_words(plain, compared).ours
    stretches = itertools.groupby(zip(words, is_common, strict=True), key=lambda one: one[1])
    return tuple(("".join(word for word, _ in run), "" if common else "only") for common, run in stretches)


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
