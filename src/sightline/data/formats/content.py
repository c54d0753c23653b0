"""Messages as rows give them → messages whose content is a list of text and image parts.

A part is `{"type": "text", "text": …}` or `{"type": "image"}`; the i-th image part shows the i-th picture.
"""

from collections.abc import Iterable, Mapping
from typing import Any

from sightline.data.defects import RowError
from sightline.data.media.find import Media, picture, pictures
from sightline.data.media.images import LazyPicture

Message = dict[str, Any]
IMAGE_PART = {"type": "image"}
IMAGE_TYPES = ("image", "image_url", "input_image")
TEXT_TYPES = ("text", "input_text", "output_text")


def text_part(value: Any, where: str) -> Message:
    """A text part. Raises `RowError` for what is not text, for NUL bytes and for halves of surrogate pairs."""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        found = type(value).__name__
        raise RowError("column has the wrong type", where, f"text is expected where the row has {found} {value!r:.80}")
    text = str(value)
    if "\0" in text:
        raise RowError("column has the wrong type", where, f"the text {text[:60]!r} holds a NUL byte")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise RowError("column has the wrong type", where, f"the text {text[:60]!r} is not Unicode: {error}") from error
    return {"type": "text", "text": text}


def tagged_parts(text: Any, where: str, tag: str = "<image>") -> list[Message]:
    """Text with `<image>` tags → parts. Only for formats that use tags; a line break next to a tag goes with it."""
    pieces = text_part(text, where)["text"].split(tag)
    parts: list[Message] = []
    for i, piece in enumerate(pieces):
        if i > 0:
            parts.append(dict(IMAGE_PART))
            piece = piece.removeprefix("\n")
        if i + 1 < len(pieces):
            piece = piece.removesuffix("\n")
        if piece:
            parts.append({"type": "text", "text": piece})
    return parts


def user(text: Any, where: str) -> Message:
    """A user message of one text part."""
    return {"role": "user", "content": [text_part(text, where)]}


def assistant(text: Any, where: str) -> Message:
    """An assistant message of one text part."""
    return {"role": "assistant", "content": [text_part(text, where)]}


class Conversation:
    """Collects the messages of one row, and the pictures that stand inside them.

    pictures: one entry an image part, in order: the picture it carries, or None where a column holds it.
    """

    def __init__(self, where: str, media: Media) -> None:
        self.where, self.media = where, media
        self.pictures: list[LazyPicture | None] = []

    def messages(self, value: Any, *, tags: bool = False) -> tuple[Message, ...]:
        """Messages of `role` and `content`. tags: `<image>` inside text stands for a picture."""
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
        return {"role": message["role"], "content": self._parts(message["content"], tags)}

    def _parts(self, content: Any, tags: bool) -> list[Message]:
        if content is None:
            return []
        if isinstance(content, Mapping):
            content = [content]
        if not isinstance(content, list | tuple):
            return self._text(content, tags)
        return [part for item in content for part in self._part(item, tags)]

    def _part(self, part: Any, tags: bool) -> list[Message]:
        if not isinstance(part, Mapping):
            return self._text(part, tags)
        kind = part.get("type")
        if kind in TEXT_TYPES:
            return self._text(part.get("text"), tags)
        if kind in IMAGE_TYPES:
            payloads = (part.get(k) for k in ("image", "image_url", "url", "path", "base64", "bytes"))
            payload = next((p for p in payloads if p is not None), None)
            inline = None if payload is None else picture(payload, self.where, self.media)
            self.pictures.append(inline)
            return [dict(IMAGE_PART)]
        what = f"a content part has type {kind!r}; text and image are read"
        raise RowError("column has the wrong type", self.where, what)

    def _text(self, text: Any, tags: bool) -> list[Message]:
        if not tags:
            return [text_part(text, self.where)]
        parts = tagged_parts(text, self.where)
        self.pictures += [None] * sum(p["type"] == "image" for p in parts)
        return parts

    def place(self, messages: tuple[Message, ...], column: Any) -> tuple[tuple[Message, ...], tuple[LazyPicture, ...]]:
        """Messages and pictures that fit each other.

        column: the row's picture column. Its pictures fill the placeholders in order; without any placeholder they
        stand at the head of the first user message, as in TRL. Raises `RowError` where the numbers differ.
        """
        column_pictures = pictures(column, self.where, self.media)
        if column_pictures and not self.pictures:
            return _lead_with_pictures(messages, len(column_pictures)), column_pictures
        num_open = sum(p is None for p in self.pictures)
        if num_open != len(column_pictures):
            what = f"the text has {num_open} picture placeholder(s) and the row {len(column_pictures)} picture(s)"
            raise RowError("pictures differ from placeholders", self.where, what)
        remaining = iter(column_pictures)
        return messages, tuple(next(remaining) if p is None else p for p in self.pictures)


def _lead_with_pictures(messages: tuple[Message, ...], count: int) -> tuple[Message, ...]:
    """`count` image parts in front of the first user message."""
    first = next((i for i, m in enumerate(messages) if m["role"] == "user"), None)
    if first is None:
        return messages  # `check_example` names the missing user turn
    message = messages[first]
    content = [dict(IMAGE_PART) for _ in range(count)] + message["content"]
    return (*messages[:first], {**message, "content": content}, *messages[first + 1 :])
