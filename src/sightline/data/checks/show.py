"""Rows for people: one HTML page with images, prompts, a word diff of chosen and rejected, and token counts."""

import io
import itertools
import json
import math
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sightline.data.checks.check import check_example
from sightline.data.defects import RowError
from sightline.data.rows import Entry
from sightline.files import data_uri, page, write_text
from sightline.scoring.word_diff import common_words
from sightline.types import Example, Group

MAX_SIDE = 480
"""Pixels of the longer side of an image on the page."""


CLAIMS = tuple(f"{reward}_{side}" for side in ("chosen", "rejected") for reward in ("claims", "self_check"))
"""Columns in which `sightline pairs` keeps the claims of both sides, as JSON."""
VERDICTS = {True: "held", False: "refuted"}


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A row as it is shown.

    error: what is wrong with it. prompt: (role, text with ▣ for images). sides: (name, words with their mark:
    "" common, "only" on this side alone). images: data URIs. tokens: of prompt and responses. rendered: the prompt as
    the model reads it, image tokens counted. targets: of each response (text, whether it is trained). seen: the images'
    size for the model. claims: of each side that `sightline pairs` had judged, (claim, held, refuted or not judged).
    """

    name: str
    error: str = ""
    prompt: tuple[tuple[str, str], ...] = ()
    sides: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    images: tuple[str, ...] = ()
    tokens: tuple[int, ...] = ()
    rendered: str = ""
    targets: tuple[tuple[tuple[str, bool], ...], ...] = ()
    seen: str = ""
    claims: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
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
            "rendered": self.rendered,
            "targets": ["".join(text for text, is_target in one if is_target) for one in self.targets],
            "image_for_model": self.seen,
            "claims": {side: [list(one) for one in claims] for side, claims in self.claims},
            "columns": dict(self.columns),
        }


def shown(entry: Entry, renderer: Any = None) -> Shown:
    """A row made ready to show, with what a `render.Renderer` makes of it; a bad one as far as it can be read."""
    try:
        example = entry.example()
    except RowError as error:
        return Shown(name=entry.name, error=str(error))
    problem, images = "", []
    read: dict[str, Any] = {}
    try:
        check_example(example, len(example.responses))
        images = [_data_uri(image) for image in example.images]
        if renderer is not None:
            read = _as_read(renderer, renderer.group(example))
    except RowError as error:
        problem = str(error)
    return Shown(
        name=entry.name,
        error=problem,
        prompt=tuple((m["role"], text_of(m)) for m in example.prompt),
        sides=_sides(example),
        images=tuple(images),
        **read,
        claims=claims_of(example),
        columns=tuple((k, f"{v!r:.200}") for k, v in example.row.items() if k not in CLAIMS),
    )


def claims_of(example: Example) -> tuple[tuple[str, tuple[tuple[str, str], ...]], ...]:
    """The claims that a judge looked at, by side: each with its verdict. Other columns are none."""
    found: dict[str, list[tuple[str, str]]] = {}
    for column in CLAIMS:
        try:
            claims = json.loads(example.row[column])
            read = [(str(one["claim"]), one["held"]) for one in claims]
            marked = [(text, "not judged" if held is None else VERDICTS[held >= 0.5]) for text, held in read]
        except (KeyError, TypeError, ValueError):
            continue
        found.setdefault(column.rpartition("_")[2], []).extend(marked)
    return tuple((side, tuple(claims)) for side, claims in found.items())


def _as_read(renderer: Any, group: Group) -> dict[str, Any]:
    """What the model gets of a row, for `Shown`."""

    def decoded(ids: Iterable[int]) -> str:
        return renderer.tokenizer.decode(list(ids))

    rendered = ""
    for is_image, run in itertools.groupby(group.prompt_ids.tolist(), key=renderer.image_token_ids.__contains__):
        ids = list(run)
        several = f" × {len(ids):,} " if len(ids) > 1 else ""
        rendered += f"{decoded(ids[:1])}{several}" if is_image else decoded(ids)
    targets = []
    for ids, weights in zip(group.responses, group.weights, strict=True):
        pairs = zip(ids.tolist(), (weights != 0).tolist(), strict=True)
        runs = itertools.groupby(pairs, key=lambda pair: pair[1])
        targets.append(tuple((decoded(token for token, _ in run), is_target) for is_target, run in runs))
    tokens = (len(group.prompt_ids), *map(len, group.responses))
    return {"tokens": tokens, "rendered": rendered, "targets": tuple(targets), "seen": seen_as(renderer, group)}


def seen_as(renderer: Any, group: Group) -> str:
    """The images of a group as the processor hands them to the model: `392 × 308 pixels, 154 tokens`."""
    grid, pixels = group.model_inputs.get("image_grid_thw"), group.model_inputs.get("pixel_values")
    if pixels is None:
        return ""
    if grid is not None:  # patches in a row, Qwen's
        patch = renderer.processor.image_processor.patch_size
        size = ", ".join(f"{width * patch:,} × {height * patch:,}" for _, height, width in grid.tolist())
    else:
        height, width = pixels.shape[-2:]
        tiles = math.prod(pixels.shape[:-3])
        size = f"{tiles} × ({width:,} × {height:,})" if tiles > 1 else f"{width:,} × {height:,}"
    num_tokens = sum(token in renderer.image_token_ids for token in group.prompt_ids.tolist())
    return f"{size} pixels, {num_tokens:,} tokens"


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
