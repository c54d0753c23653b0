"""One row → what a data check needs to know of it. Pure, so that rows can be examined in any process."""

import itertools
import re
import unicodedata
from dataclasses import dataclass, field
from functools import lru_cache
from hashlib import blake2b
from typing import Any

from sightline.data.checks.check import checked
from sightline.data.checks.glance import Glance, glance
from sightline.data.defects import RowError
from sightline.data.media.images import LazyImage
from sightline.data.rows import Entry
from sightline.types import Example

MIN_SIDE = 28
"""Pixels: a side below one patch of common vision towers."""
MAX_SHRINK = 4.0
"""How many times a processor may shrink a side before detail counts as lost."""
MAX_PIXELS_UNKNOWN = 20_000_000
"""Pixels above which an image is too large when no model is named."""
WORD = re.compile(r"\w+")


@dataclass(kw_only=True)
class Facts:
    """What one row adds to a report.

    id: `source:row`. defects: (name, message). glances, image_keys: of its images. row_key: equal for copies.
    question_key: equal for the same images and prompt. answers: for each response the hash of its text and its side
    (+1 chosen, −1 rejected, 0 neither). num_characters: of prompt and responses. words: (only in chosen, only in
    rejected). scripts: of all texts. num_tokens: of prompt and longest response, when a renderer was given.
    """

    id: str
    defects: list[tuple[str, str]] = field(default_factory=list)
    glances: list[Glance] = field(default_factory=list)
    image_keys: list[bytes] = field(default_factory=list)
    row_key: bytes = b""
    question_key: bytes = b""
    answers: list[tuple[bytes, int]] = field(default_factory=list)
    num_characters: list[int] = field(default_factory=list)
    words: tuple[frozenset[str], frozenset[str]] = (frozenset(), frozenset())
    scripts: frozenset[str] = frozenset()
    num_tokens: int | None = None


class Examiner:
    """Examines rows. num_responses: what every row must have; None takes what each row has. needs_label: whether a
    single response has to be labelled.

    renderer: a `render.Renderer` that counts tokens and refuses what it cannot render; None for a fast check.
    """

    def __init__(self, num_responses: int | None = None, renderer: Any = None, needs_label: bool = False) -> None:
        self.num_responses, self.renderer, self.needs_label = num_responses, renderer, needs_label
        self.max_pixels = _max_pixels(renderer)
        self._glance = lru_cache(maxsize=4096)(self._look)

    def __getstate__(self) -> dict:
        return {"num_responses": self.num_responses, "renderer": self.renderer, "needs_label": self.needs_label}

    def __setstate__(self, state: dict) -> None:
        self.__init__(**state)

    def __call__(self, entry: Entry) -> Facts:
        """The facts of a row; whatever is wrong with it is among them."""
        facts = Facts(id=entry.name)
        try:
            example = entry.example()
        except RowError as error:
            facts.defects.append((error.defect, error.finding))
            return facts
        self._examine_images(example, facts)
        try:
            number = len(example.responses) if self.num_responses is None else self.num_responses
            example = checked(example, number, needs_label=self.needs_label)
        except RowError as error:
            facts.defects.append((error.defect, error.finding))
            return facts
        self._examine_texts(example, facts)
        if self.renderer is not None and len(facts.glances) == len(example.images):
            self._render(example, facts)
        return facts

    def _examine_images(self, example: Example, facts: Facts) -> None:
        for image in example.images:
            assert isinstance(image, LazyImage)
            try:
                key = image.key
                seen = self._glance(_Keyed(key, image))
            except RowError as error:
                facts.defects.append((error.defect, error.finding))
                continue
            facts.glances.append(seen)
            facts.image_keys.append(_short(key))
            width, height = seen.size
            if seen.num_frames > 1:
                what = f"an image has {seen.num_frames} pages or frames; the first one is used"
                facts.defects.append(_defect(example, "several frames", what))
            if min(width, height) < MIN_SIDE:
                facts.defects.append(_defect(example, "image too small", f"an image has {width} × {height} pixels"))
            elif width * height > self.max_pixels:
                what = f"an image has {width} × {height} pixels, more than {self.max_pixels:,}"
                facts.defects.append(_defect(example, "image too large", what))

    def _look(self, keyed: "_Keyed") -> Glance:
        return glance(keyed.image)

    def _examine_texts(self, example: Example, facts: Facts) -> None:
        prompt = _text_of(example.prompt)
        texts = [response.text for response in example.responses]
        images = b"".join(facts.image_keys)
        facts.question_key = _short(prompt, images)
        facts.row_key = _short(prompt, *texts, images)
        facts.num_characters = [len(prompt), *map(len, texts)]
        facts.scripts = frozenset().union(*(scripts_of(text) for text in (prompt, *texts)))
        sides = [response.messages for response in example.responses] or [()]
        roles = [[m["role"] for m in (*example.prompt, *side)] for side in sides]
        if any(a == b == "assistant" for side in roles for a, b in itertools.pairwise(side)):
            facts.defects.append(_defect(example, "two assistant turns", "an assistant's turn follows another"))
        labels = [r.label for r in example.responses]
        signs = [1, -1] if len(texts) == 2 else [0 if label is None else 1 if label else -1 for label in labels]
        plain = [normalised(text) for text in texts]
        facts.answers = [_answer(text, side) for text, side in zip(plain, signs, strict=True)]
        if len(texts) == 2:
            words = [frozenset(text.split()) for text in plain]
            facts.words = (words[0] - words[1], words[1] - words[0])
            if plain[0] == plain[1]:
                facts.answers = []
                facts.defects.append(
                    _defect(example, "near-equal pair", f"{texts[0][:50]!r} against {texts[1][:50]!r}")
                )
        if plain and gives_away(normalised(prompt), plain):
            facts.defects.append(_defect(example, "answer in the prompt", f"the prompt says {texts[0][:60]!r}"))

    def _render(self, example: Example, facts: Facts) -> None:
        assert self.renderer is not None
        try:
            group = self.renderer.group(example)
        except RowError as error:
            facts.defects.append((error.defect, error.finding))
            return
        facts.num_tokens = len(group.prompt_ids) + max((len(r) for r in group.responses), default=0)


class _Keyed:
    """An image that is equal to another by its key, so that a repeated one is decoded once."""

    def __init__(self, key: str, image: LazyImage) -> None:
        self.key, self.image = key, image

    def __hash__(self) -> int:
        return hash(self.key)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Keyed) and other.key == self.key


def normalised(text: str) -> str:
    """Words in lower case with single spaces: what is left when case, spaces and punctuation do not count."""
    return " ".join(WORD.findall(text.lower())) or text.strip()


def gives_away(prompt: str, responses: list[str]) -> bool:
    """Whether the normalised prompt holds the first response and not the second; short single answers do not count."""
    best, *others = responses
    is_telling = len(best.split()) >= 4 if not others else best not in ("yes", "no")
    return is_telling and f" {best} " in f" {prompt} " and not any(f" {o} " in f" {prompt} " for o in others)


def scripts_of(text: str) -> frozenset[str]:
    """The scripts of a text's letters (Latin, Cjk, Cyrillic, …), from at most 200 letters that are not ASCII."""
    found = {"Latin"} if any(c.isascii() and c.isalpha() for c in text[:2000]) else set()
    if not text.isascii():
        letters = (c for c in text[:20_000] if not c.isascii() and c.isalpha())
        for _, letter in zip(range(200), letters, strict=False):
            found.add(unicodedata.name(letter, "OTHER").split()[0].split("-")[0].capitalize())
    return frozenset(found)


def _answer(text: str, side: int) -> tuple[bytes, int]:
    """An answer and its side. Two demonstrations may both be right, unless one says yes and the other no."""
    return (b"yes or no", 1 if text == "yes" else -1) if side == 0 and text in ("yes", "no") else (_short(text), side)


def _text_of(messages: tuple[dict, ...]) -> str:
    """All texts of a conversation, with roles, images left out."""
    return "\n".join(p["text"] for m in messages for p in m["content"] if p["type"] == "text")


def _short(*values: str | bytes) -> bytes:
    """8 bytes that tell values apart."""
    digest = blake2b(digest_size=8)
    for value in values:
        raw = value.encode() if isinstance(value, str) else value
        digest.update(len(raw).to_bytes(8, "little") + raw)
    return digest.digest()


def _defect(example: Example, name: str, what: str) -> tuple[str, str]:
    return name, RowError(name, f"{example.source}, row {example.row_number}", what).finding


def _max_pixels(renderer: Any) -> int:
    """Pixels above which the renderer's image processor shrinks a side more than `MAX_SHRINK` times."""
    if renderer is None:
        return MAX_PIXELS_UNKNOWN
    processor = renderer.processor.image_processor
    size = dict(getattr(processor, "size", None) or {})
    if "height" in size and "width" in size:
        kept = size["height"] * size["width"]
    elif type(processor).__name__.startswith(("Qwen2VL", "Qwen3VL")):
        kept = size["longest_edge"]  # there a number of pixels
    elif "longest_edge" in size:
        kept = size["longest_edge"] ** 2
    else:
        kept = size.get("shortest_edge", 0) ** 2
    return int(kept * MAX_SHRINK**2) or MAX_PIXELS_UNKNOWN
