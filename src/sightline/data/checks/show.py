"""Rows for people: one HTML page with pictures, prompts, a word diff of chosen and rejected, and token counts."""

import difflib
import io
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.rows import Entry
from sightline.files import data_uri, page, write_text
from sightline.types import Example

MAX_SIDE = 480
"""Pixels of the longer side of a picture on the page."""


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row as it is shown.

    error: what is wrong with it. prompt: (role, text with ▣ for pictures). sides: (name, words with their mark:
    "" common, "only" on this side alone). pictures: data URIs. tokens: of prompt and responses.
    """

    name: str
    error: str = ""
    prompt: tuple[tuple[str, str], ...] = ()
    sides: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    pictures: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    columns: tuple[tuple[str, str], ...] = ()

    def as_json(self) -> dict[str, Any]:
        """Texts and counts; pictures are on the page."""
        return {
            "row": self.name,
            "error": self.error or None,
            "prompt": [{"role": role, "text": text} for role, text in self.prompt],
            "responses": {name: "".join(words for words, _ in side) for name, side in self.sides},
            "pictures": len(self.pictures),
            "tokens": list(self.tokens),
            "columns": dict(self.columns),
        }


def shown(entry: Entry, renderer: Any = None) -> Shown:
    """A row made ready to show, with token counts by a `render.Renderer`; a bad one as far as it can be read."""
    try:
        example = entry.example()
    except RowError as error:
        return Shown(name=entry.name, error=str(error))
    problem, pictures, tokens = "", [], ()
    try:
        check_example(example, len(example.responses))
        pictures = [_data_uri(picture) for picture in example.images]
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
        pictures=tuple(pictures),
        tokens=tokens,
        columns=tuple((k, f"{v!r:.200}") for k, v in example.row.items()),
    )


def write_page(path: Path, rows: list[Shown], title: str) -> None:
    """The rows as one HTML file; it appears whole or not at all."""
    write_text(path, page("sightline.data.checks", "show.html.j2", rows=rows, title=title))


def text_of(message: dict[str, Any]) -> str:
    """A message's text, ▣ where a picture stands."""
    return "".join("▣ " if p["type"] == "image" else p["text"] for p in message["content"])


def word_diff(ours: str, theirs: str) -> tuple[tuple[str, str], ...]:
    """`ours` in stretches of words: ("only" for those that `theirs` lacks, "" for common ones), spaces kept."""
    words, others = (re.findall(r"\s*\S+", text) for text in (ours, theirs))
    plain, compared = ([w.strip() for w in side] for side in (words, others))
    matcher = difflib.SequenceMatcher(None, plain, compared, autojunk=False)
    stretches = []
    for operation, start, end, _, _ in matcher.get_opcodes():
        if start < end:
            stretches.append(("".join(words[start:end]), "" if operation == "equal" else "only"))
    return tuple(stretches)


def _sides(example: Example) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    texts = ["\n".join(text_of(m) for m in response.messages) for response in example.responses]
    if len(texts) == 2:
        return ("chosen", word_diff(texts[0], texts[1])), ("rejected", word_diff(texts[1], texts[0]))
    names = {None: "response", True: "response, desirable", False: "response, undesirable"}
    return tuple((names[r.label], ((text, ""),)) for r, text in zip(example.responses, texts, strict=True))


def _data_uri(picture: Any) -> str:
    small = picture.open()
    small.thumbnail((MAX_SIDE, MAX_SIDE))
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=85)
    return data_uri(buffer.getvalue())
