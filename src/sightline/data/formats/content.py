"""Messages as rows give them → messages whose content is a list of text and image parts.

A part is `{"type": "text", "text": …}` or `{"type": "image"}`; the i-th image part shows the i-th image.
"""

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from sightline.data.defects import RowError
from sightline.data.formats.image_columns import ColumnImages, images_of
from sightline.data.formats.tags import OTHER_MEDIA, num_tags, split_at_tags
from sightline.data.formats.turn_keys import refuse_unread, weight_of
from sightline.data.media.find import Media, image
from sightline.data.media.images import LazyImage

Message = dict[str, Any]
IMAGE_PART = {"type": "image"}
IMAGE_TYPES = ("image", "image_url", "input_image")
IMAGE_KEYS = ("image", "image_url", "url", "path", "base64", "bytes", "source", "data")
"""Keys of a content part that may carry the image itself."""
TEXT_TYPES = ("text", "input_text", "output_text")
ROLES = {
    "user": "user", "human": "user",
    "assistant": "assistant", "gpt": "assistant", "chatgpt": "assistant", "model": "assistant", "bot": "assistant",
    "function_call": "assistant",
    "system": "system", "developer": "system",
    "tool": "tool", "function": "tool", "observation": "tool", "ipython": "tool",
}  # fmt: skip
"""What a row calls a role, in lower case → the role."""


def text_part(value: Any, where: str) -> Message:
    """A text part. Raises `RowError` for what is not text, for NUL bytes and for halves of surrogate pairs."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = type(value).__name__
        raise RowError("column has the wrong type", where, f"text is expected where the row has {found} {value!r:.80}")
    if isinstance(value, float) and not math.isfinite(value):
        raise RowError("column has the wrong type", where, f"text is expected where the row has the number {value}")
    text = str(value)
    if "\0" in text:
        raise RowError("column has the wrong type", where, f"the text {text[:60]!r} holds a NUL byte")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError("column has the wrong type", where, f"the text {text[:60]!r} is not Unicode: {error}") from error
    return {"type": "text", "text": text}


def user(text: Any, where: str) -> Message:
    """A user message of one text part."""
    return {"role": "user", "content": [text_part(text, where)]}


def assistant(text: Any, where: str) -> Message:
    """An assistant message of one text part."""
    return {"role": "assistant", "content": [text_part(text, where)]}


def messages_as_text(value: Any) -> Any:
    """Messages written as JSON text (CSV, older files) → the messages; any other text, JSON or not, stays text."""
    if not isinstance(value, str) or not value.lstrip().startswith(("[", "{")):
        return value
    try:
        read = json.loads(value)
    except (ValueError, RecursionError):
        return value
    turns = read if isinstance(read, list) else [read]
    is_turns = turns and all(isinstance(turn, dict) and ("role" in turn or "from" in turn) for turn in turns)
    return read if is_turns else value


class Conversation:
    """Collects the messages of one row, and the images that stand inside them.

    literal: the format that takes tags for text, for the message about tags that fit no image.
    slots: one entry an image part, in order: the image that the part carries, the number that its tag says, or None;
    the last two are filled from a column.
    """

    def __init__(self, where: str, media: Media, literal: str | None = None) -> None:
        self.where, self.media, self.literal = where, media, literal
        self.slots: list[LazyImage | int | None] = []
        self.reads_tags = False
        self.num_said_tags = 0

    def messages(self, value: Any, *, tags: bool = False) -> tuple[Message, ...]:
        """Messages of `role` and `content`. tags: `<image>` in a text stands for an image, save in the assistant's."""
        self.reads_tags |= tags
        if isinstance(value, Mapping):
            value = [value]
        if not isinstance(value, Iterable) or isinstance(value, str):
            found = type(value).__name__
            raise RowError("column has the wrong type", self.where, f"a list of messages is expected, got {found}")
        return tuple(self._message(m, tags) for m in value)

    def _message(self, message: Any, tags: bool) -> Message:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str) or "content" not in message:
            what = f"a message needs `role` and `content`, got {message!r:.120}"
            raise RowError("column has the wrong type", self.where, what)
        role = ROLES.get(message["role"].lower())
        if role is None:
            what = f"the role {message['role']!r:.60} is not known; known: {', '.join(ROLES)}"
            raise RowError("column has the wrong type", self.where, what)
        refuse_unread(message, self.where)
        weight = weight_of(message, role, self.where)
        first = len(self.slots)
        parts = self._parts(message["content"], tags, role)
        parts = self._with_own_images(message, parts, first)
        read = {"role": role, "content": parts}
        return read if role != "assistant" or weight == 1 else {**read, "weight": weight}

    def _with_own_images(self, message: Mapping[str, Any], parts: list[Message], first: int) -> list[Message]:
        """The parts with the images of the message's own keys (ms-swift's `images`) in them."""
        own = images_of({k: v for k, v in message.items() if k not in ("role", "content")}, self.where, self.media)
        if not own.images:
            return parts
        slots = self.slots[first:]
        if not any(not isinstance(slot, LazyImage) for slot in slots):
            self.slots += own.images
            return [dict(IMAGE_PART) for _ in own.images] + parts
        self.slots[first:] = self._filled(slots, own, "the message")
        return parts

    def _parts(self, content: Any, tags: bool, role: str) -> list[Message]:
        if content is None:
            return []
        if isinstance(content, Mapping):
            content = [content]
        if not isinstance(content, list | tuple):
            return self._text(content, tags, role)
        return [part for item in content for part in self._part(item, tags, role)]

    def _part(self, part: Any, tags: bool, role: str) -> list[Message]:
        if not isinstance(part, Mapping):
            return self._text(part, tags, role)
        filled = {key: value for key, value in part.items() if value is not None}
        kind = filled.get("type") or next((k for k in ("text", "image", "image_url") if k in filled), None)
        if kind in TEXT_TYPES and not any(key in filled for key in IMAGE_KEYS if key != "url"):
            return self._text(filled.get("text"), tags, role)
        if kind in IMAGE_TYPES and not filled.get("text"):
            payload = next((filled[k] for k in IMAGE_KEYS if k in filled), None)
            number = filled.get("index")  # Idefics' rows count the images of the row from 0
            if payload is not None:
                self.slots.append(image(payload, self.where, self.media))
            else:
                self.slots.append(number + 1 if type(number) is int else None)
            return [dict(IMAGE_PART)]
        if isinstance(kind, str) and any(word in kind.lower() for word in ("video", "audio", "file", "document")):
            raise RowError("media not read", self.where, f"a content part is {kind!r}: {part!r:.120}")
        what = f"a content part has type {kind!r} and {', '.join(map(str, filled))}; text or one image is read"
        raise RowError("column has the wrong type", self.where, what)

    def _text(self, text: Any, tags: bool, role: str) -> list[Message]:
        part = text_part(text, self.where)
        if role == "assistant":
            self.num_said_tags += num_tags(part["text"])
        if not tags or role == "assistant":
            return [part]
        film = OTHER_MEDIA.search(part["text"])
        if film:
            what = f"the text has a tag {film.group().strip()}"
            raise RowError("media not read", self.where, what + self._as_text("it"))
        pieces = split_at_tags(part["text"])
        placed = [piece for piece in pieces if not isinstance(piece, str)]
        self.slots += placed
        if not placed:
            return [part]
        return [{"type": "text", "text": p} if isinstance(p, str) else dict(IMAGE_PART) for p in pieces]

    def place(
        self, messages: tuple[Message, ...], row: Mapping[str, Any]
    ) -> tuple[tuple[Message, ...], tuple[LazyImage, ...], ColumnImages]:
        """Messages and images that fit each other, and what the row's columns hold.

        The images of the row's columns fill placeholders in order, or by the numbers of tags; without any placeholder
        they stand at the head of the first user message, as in TRL. Raises `RowError` where they do not fit.
        """
        found = images_of(row, self.where, self.media)
        is_open = any(not isinstance(slot, LazyImage) for slot in self.slots)
        if self.reads_tags and self.num_said_tags and found.images and not is_open:
            what = (
                f"the assistant's text has {self.num_said_tags} tag(s) and no other text any, for the row's "
                f"{len(found.images)} image(s); images belong to the prompt, which all responses share"
            )
            raise RowError("images differ from placeholders", self.where, what + self._as_text("the tag"))
        if found.images and not self.slots:
            return _lead_with_images(messages, len(found.images)), found.images, found
        return messages, tuple(self._filled(self.slots, found, "the row")), found

    def _filled(self, slots: Sequence[LazyImage | int | None], found: ColumnImages, holder: str) -> list[LazyImage]:
        """The slots with images in them. Raises `RowError` unless every image is placed and every slot filled."""
        numbers = [slot for slot in slots if isinstance(slot, int)]
        num_open = sum(slot is None for slot in slots)
        if not numbers and num_open == len(found.images):
            remaining = iter(found.images)
            return [slot if isinstance(slot, LazyImage) else next(remaining) for slot in slots]
        by_number = dict(zip(found.numbers, found.images, strict=True))
        if set(numbers) == {n - 1 for n in by_number}:
            by_number = {n - 1: one for n, one in by_number.items()}  # counted from 0
        if numbers and not num_open and set(numbers) == set(by_number):
            return [by_number[slot] if isinstance(slot, int) else slot for slot in slots if slot is not None]
        asked = f"{num_open} image placeholder(s)"
        if numbers:
            asked = f"tags for the images {', '.join(map(str, sorted(set(numbers))))}"
            asked += f" and {num_open} without a number" if num_open else ""
        what = f"the text has {asked} and {holder} {len(found.images)} image(s)"
        if found.columns:
            what += f" in {', '.join(found.columns)}"
        raise RowError("images differ from placeholders", self.where, what + self._as_text("a tag"))

    def _as_text(self, name: str) -> str:
        """How to have tags taken for text, where the format has a way."""
        if self.literal is None:
            return ""
        return f". Where {name} is meant as text, set data.format to {self.literal}"


def _lead_with_images(messages: tuple[Message, ...], count: int) -> tuple[Message, ...]:
    """`count` image parts in front of the first user message."""
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None:
        return messages  # `check_example` names the missing user turn
    message = messages[first]
    content = [dict(IMAGE_PART) for _ in range(count)] + message["content"]
    return (*messages[:first], {**message, "content": content}, *messages[first + 1 :])
