"""Columns that no format reads and that must not be dropped in silence: images, video, sound, tools.

Media are known by their bytes, by `{bytes, path}`, by the ending of a path, and by the column's name, however deep they
lie. The name of a file beside images that were read is where they came from, unless a file of that name is there.
"""

import os
import re
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.defects import RowError
from sightline.data.formats.names import ANSWER_COLUMNS, QUESTION_COLUMNS
from sightline.data.formats.parsed import Parsed
from sightline.data.formats.turn_keys import is_empty
from sightline.data.media.find import DATA_URI, Media, is_base64
from sightline.data.media.kinds import Kind, kind_of_bytes, kind_of_name

TOOLS = ("tools", "functions", "tool_calls")
TEXTS = frozenset({*QUESTION_COLUMNS, *ANSWER_COLUMNS, "solution", "answers"})
"""Columns whose text may well be the name of a file without meaning the file."""
OF_MEDIA = re.compile(
    r"(?:.*[_ -])?(?:images?|imgs?|images?|pics?|photos?|frames?|videos?|clips?|audios?)(?:[_ -]?\d+)?"
)
KINDS: tuple[Kind, ...] = ("image", "video", "audio")
FILM_OR_SOUND = ("video", "videos", "audio", "audios")
PLACEHOLDERS = ("<bbox>", "<ref-object>")
"""ms-swift's, filled from the column `objects`."""
MOST_VALUES = 10_000
"""Values of a column that are looked at."""


def refuse_unread_columns(
    extra: Mapping[str, Any], row: Mapping[str, Any], parsed: Parsed, where: str, media: Media
) -> None:
    """Raise `RowError` for a column that says something to a model and is not read, and for names that are not text."""
    for name in TOOLS:
        if not is_empty(extra.get(name)):
            raise RowError(
                "key not read", where, f"the column {name} holds {extra[name]!r:.80}; tools are not rendered"
            )
    if extra.get("objects") is not None:
        _refuse_placeholders(parsed, where)
    looked = _Look(where, media, _names_in(parsed, row), bool(parsed.images))
    for column, value in extra.items():
        looked.refuse_surrogates(str(column), repr(column))
        looked.at(str(column), value)


def _refuse_placeholders(parsed: Parsed, where: str) -> None:
    messages = (*parsed.prompt, *(m for response in parsed.responses for m in response.messages))
    texts = [part["text"] for message in messages for part in message["content"] if part["type"] == "text"]
    found = next((tag for tag in PLACEHOLDERS if any(tag in text for text in texts)), None)
    if found:
        what = f"the text has {found}, which stands for a value of the column objects"
        raise RowError("key not read", where, what)


def _names_in(parsed: Parsed, row: Mapping[str, Any]) -> frozenset[str]:
    """Names of the files that the row's images are from."""
    paths = [str(p.path or p.url) for p in parsed.images if p.path is not None or p.url is not None]
    for column in parsed.consumed:
        held = row.get(column)
        for one in held if isinstance(held, list | tuple) else [held]:
            path = one.get("path") if isinstance(one, Mapping) else one
            if isinstance(path, str) and len(path) < 1024:
                paths.append(path)
    return frozenset(_name(path) for path in paths)


def _name(path: str) -> str:
    return PurePath(path.replace("\\", "/").partition("?")[0]).name


class _Look:
    """Looks through the values of one row's columns."""

    def __init__(self, where: str, media: Media, read: frozenset[str], has_images: bool) -> None:
        self.where, self.media, self.read, self.has_images = where, media, read, has_images
        self.left = MOST_VALUES

    def at(self, column: str, value: Any, key: str = "") -> None:
        """Raise `RowError` for media in a column's value. key: of the innermost mapping or else the column."""
        key = key or column
        self.left -= 1
        if value is None or isinstance(value, bool | int | float) or self.left < 0:
            return
        match value:
            case str():
                self._text(column, key, value)
            case bytes() | bytearray() | memoryview():
                self._refuse(kind_of_bytes(bytes(value[:16])), column, f"{len(value):,} bytes")
            case Mapping():
                for inner, one in value.items():
                    self.at(column, one, key if inner in ("path", "url", "bytes") else str(inner))
            case list() | tuple():
                for one in value:
                    self.at(column, one, key)
            case Image.Image():
                self._refuse("image", column, "an open image")
            case np.ndarray() if value.dtype == np.uint8 and value.ndim >= 3:
                self._refuse("image" if value.ndim == 3 else "video", column, f"an array of shape {value.shape}")

    def _text(self, column: str, key: str, text: str) -> None:
        self.refuse_surrogates(text, column)
        if column in TEXTS:
            return
        head = DATA_URI.match(text[:200])
        kind = _kind_of_mime(head.group(1)) if head else "image" if is_base64(text) else None
        self._refuse(kind, column, f"{len(text):,} characters of base64")
        kind = kind_of_name(text)
        if kind is None:
            is_film = key.lower() in FILM_OR_SOUND and bool(text.strip())
            self._refuse(_kind_of_mime(key.lower()) if is_film else None, column, repr(text[:80]))
        elif _name(text) not in self.read and (
            not self.has_images or _is_of_media(key.lower()) or self._is_there(text)
        ):
            self._refuse(kind, column, repr(text[:80]))

    def _is_there(self, text: str) -> bool:
        if self.media.folder is None or "://" in text:
            return False
        try:
            return os.path.isfile(os.path.join(self.media.folder, text))
        except (OSError, ValueError):
            return False

    def _refuse(self, kind: Kind | None, column: str, what: str) -> None:
        if kind is not None:
            article = "an image" if kind == "image" else kind
            found = f"the column {column!r:.60} holds {article}, {what}, and no format reads it"
            raise RowError("media not read", self.where, found)

    def refuse_surrogates(self, text: str, column: str) -> None:
        """Half a surrogate pair cannot be written into any file."""
        if text.isascii():
            return
        try:
            text.encode()
        except UnicodeEncodeError as error:
            what = f"the column {column!r:.60} holds {text[:60]!r}, which is not Unicode: {error}"
            raise RowError("column has the wrong type", self.where, what) from error


def _is_of_media(column: str) -> bool:
    """Whether a column is called for what it holds: `mask_image`, `video2`, or a file's ending, `wav`."""
    return OF_MEDIA.fullmatch(column) is not None or kind_of_name(f".{column}") is not None


def _kind_of_mime(text: str) -> Kind | None:
    """Of `image/png`, or of a column called `videos`."""
    return next((kind for kind in KINDS if text.lower().startswith(kind)), None)
