"""What rows say of an image (bytes, a path, `{bytes, path}`, a data URI, an open image) → `LazyImage`."""

import ast
import base64
import binascii
import json
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.defects import RowError
from sightline.data.media.images import LazyImage
from sightline.data.media.kinds import kind_of_bytes

DATA_URI = re.compile(r"data:([\w.+/-]*)((?:;[\w.+=\-\"]*)*),", re.IGNORECASE)
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
WEB = re.compile(r"https?://", re.IGNORECASE)
BASE64_STARTS = ("/9j/", "iVBORw0KGgo", "R0lGOD", "UklGR", "Qk", "SUkq", "TU0AK", "AAAA")
"""How JPEG, PNG, GIF, WebP, BMP, TIFF (two) and AVIF begin in base64."""
BASE64 = re.compile(r"[A-Za-z0-9+/_=\s-]+")
SHORTEST_BASE64 = 60
"""Characters below which a text is taken for a path, whatever it begins with."""
LONGEST_LIST = 16 * 2**20
"""Characters of a text that is parsed as a list of images."""


@dataclass(frozen=True)
class Media:
    """Where a source's images may come from.

    folder: paths are relative to it and cannot leave it; None (rows made in Python) takes any path. allow_urls: fetch
    http(s) addresses.
    """

    folder: Path | None = None
    allow_urls: bool = False


def image(value: Any, where: str, media: Media) -> LazyImage:
    """One image as a row gives it. Nothing is opened here.

    Raises `RowError` for a path outside the folder, an address that is not allowed, or a value that is no image.
    """
    match value:
        case LazyImage():
            return value
        case Image.Image():
            return LazyImage(where=where, image=value)
        case bytes() | bytearray() | memoryview():
            return LazyImage(where=where, data=bytes(value))
        case np.ndarray():
            return LazyImage(where=where, image=_from_array(value, where))
        case Mapping():
            return _from_mapping(value, where, media)
        case list() | tuple() if _are_bytes(value):
            return LazyImage(where=where, data=bytes(value))
        case str() | os.PathLike():
            return _from_text(os.fspath(value), where, media)
    found = type(value).__name__
    raise RowError("column has the wrong type", where, f"an image cannot be of type {found}; expected bytes or a path")


def images(value: Any, where: str, media: Media, column: str = "images") -> tuple[LazyImage, ...]:
    """The images of a column: none, one, or a list. Raises `RowError` for an empty place in a list."""
    values = _listed(value)
    empty = [number for number, one in enumerate(values) if one is None]
    if empty:
        what = f"{column}[{empty[0]}] is null, of {len(values)} in the list"
        raise RowError("image missing", where, what)
    return tuple(image(one, where, media) for one in values)


def _listed(value: Any) -> list[Any] | tuple[Any, ...]:
    """A column's value as a list of images; lists may be written as text (CSV), or as a mapping of lists (arrow)."""
    if value is None:
        return ()
    if isinstance(value, str) and value.startswith("[") and value.rstrip().endswith("]") and len(value) < LONGEST_LIST:
        for read in (json.loads, ast.literal_eval):
            with suppress(ValueError, SyntaxError, RecursionError, MemoryError):
                return _listed(read(value))
    if isinstance(value, Mapping) and any(isinstance(value.get(k), list) for k in ("bytes", "path")):
        columns = [value.get(k) for k in ("bytes", "path")]
        if not any(isinstance(c, list) and c and isinstance(c[0], int) for c in columns):  # a file's bytes as numbers
            length = max(len(c) for c in columns if isinstance(c, list))
            lists = [c if isinstance(c, list) and len(c) == length else [None] * length for c in columns]
            return [{"bytes": data, "path": path} for data, path in zip(*lists, strict=True)]
    if isinstance(value, list | tuple) and not _are_bytes(value):
        return value
    return (value,)


def _are_bytes(value: Any) -> bool:
    """Whether a list holds a file's bytes as numbers."""
    return len(value) > 8 and all(isinstance(v, int) and 0 <= v < 256 for v in value)


def inside(path: str, where: str, folder: Path | None) -> Path:
    """The path under `folder`; `..` is resolved by name only, so that a folder of links (the hub's cache) works."""
    if not path.strip():
        raise RowError("image missing", where, "the image's path is empty")
    if "\0" in path:
        raise RowError("image missing", where, f"the image's path {path!r:.120} holds a NUL byte")
    if folder is None:
        return Path(path)
    root = os.path.abspath(folder)
    full = os.path.normpath(os.path.join(root, path))
    if full != root and not full.startswith(root.rstrip(os.sep) + os.sep):
        what = f"the path {path!r:.120} leaves the media folder {root!r}"
        raise RowError("image outside media folder", where, what)
    return Path(full)


def _from_mapping(value: Mapping, where: str, media: Media) -> LazyImage:
    """`{bytes, path}`, OpenAI's `{url}`, Anthropic's `{type, media_type, data}`, `{base64}`."""
    for key in ("bytes", "path", "url", "image", "base64", "data"):
        given = value.get(key)
        if given is None:
            continue
        if isinstance(given, Mapping):
            raise RowError("column has the wrong type", where, f"an image's {key} is a mapping: {given!r:.80}")
        if key in ("bytes", "base64", "data") and isinstance(given, str):
            return LazyImage(where=where, data=_decoded(given.partition("base64,")[2] or given, where))
        return image(given, where, media)
    keys = ", ".join(map(str, value)) or "nothing"
    raise RowError("image missing", where, f"an image is given as a mapping of {keys}, without bytes or a path")


def _from_text(text: str, where: str, media: Media) -> LazyImage:
    head = DATA_URI.match(text[:200])
    if head:
        if not head.group(2).lower().endswith(";base64"):
            raise RowError("image undecodable", where, f"the data URI {text[:40]!r} is not in base64")
        return LazyImage(where=where, data=_decoded(text[head.end() :], where))
    if is_base64(text):
        return LazyImage(where=where, data=_decoded(text, where))
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    elif URL.match(text):
        if media.allow_urls and WEB.match(text):
            return LazyImage(where=where, url=text)
        raise RowError("image from the network", where, f"the image is the URL {text[:120]!r}")
    return LazyImage(where=where, path=inside(text, where, media.folder))


def is_base64(text: str) -> bool:
    """Whether a text is an image's bytes in base64, as VLMEvalKit's tables have it, and not a path."""
    if len(text) < SHORTEST_BASE64 or not text.startswith(BASE64_STARTS) or not BASE64.fullmatch(text[:200]):
        return False
    with suppress(ValueError, binascii.Error):
        return kind_of_bytes(base64.b64decode(_plain_base64(text[:64])[:64])) == "image"
    return False


def _decoded(text: str, where: str) -> bytes:
    """Base64 with or without line breaks and padding, in the plain or the URL alphabet. Raises `RowError`."""
    try:
        return base64.b64decode(_plain_base64(text), validate=True)
    except (ValueError, binascii.Error) as error:
        what = f"{text[:40]!r}… ({len(text):,} characters) is not base64: {error}"
        raise RowError("image undecodable", where, what) from error


def _plain_base64(text: str) -> str:
    text = "".join(text.split()).replace("-", "+").replace("_", "/").rstrip("=")
    return text + "=" * (-len(text) % 4)


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        what = f"an image is an array of {array.dtype} and shape {array.shape}; expected uint8 [height, width, 3]"
        raise RowError("column has the wrong type", where, what)
    return Image.fromarray(array)
