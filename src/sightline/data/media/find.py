"""What rows say of a picture (bytes, a path, `{bytes, path}`, a data URI, an open image) → `LazyPicture`."""

import base64
import binascii
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from sightline.data.defects import RowError
from sightline.data.media.images import LazyPicture

DATA_URI = re.compile(r"data:image/[\w.+-]+;base64,", re.IGNORECASE)
URL = re.compile(r"[a-z][a-z0-9+.-]+://", re.IGNORECASE)
WEB = re.compile(r"https?://", re.IGNORECASE)


@dataclass(frozen=True)
class Media:
    """Where a source's pictures may come from.

    folder: paths are relative to it and cannot leave it; None (rows made in Python) takes any path. allow_urls: fetch
    http(s) addresses.
    """

    folder: Path | None = None
    allow_urls: bool = False


def picture(value: Any, where: str, media: Media) -> LazyPicture:
    """One picture as a row gives it. Nothing is opened here.

    Raises `RowError` for a path outside the folder, an address that is not allowed, or a value that is no picture.
    """
    match value:
        case LazyPicture():
            return value
        case Image.Image():
            return LazyPicture(where=where, image=value)
        case bytes() | bytearray() | memoryview():
            return LazyPicture(where=where, data=bytes(value))
        case np.ndarray():
            return LazyPicture(where=where, image=_from_array(value, where))
        case Mapping():
            return _from_mapping(value, where, media)
        case str() | os.PathLike():
            return _from_text(os.fspath(value), where, media)
    found = type(value).__name__
    raise RowError("column has the wrong type", where, f"a picture cannot be of type {found}; expected bytes or a path")


def pictures(value: Any, where: str, media: Media) -> tuple[LazyPicture, ...]:
    """The pictures of a column: none, one, or a list."""
    if value is None:
        return ()
    values = value if isinstance(value, list | tuple) else [value]
    return tuple(picture(v, where, media) for v in values if v is not None)


def inside(path: str, where: str, folder: Path | None) -> Path:
    """The path under `folder`; `..` is resolved by name only, so that a folder of links (the hub's cache) works."""
    if "\0" in path:
        raise RowError("picture missing", where, f"the picture's path {path!r} holds a NUL byte")
    if folder is None:
        return Path(path)
    root = os.path.abspath(folder)
    full = os.path.normpath(os.path.join(root, path))
    if full != root and not full.startswith(root.rstrip(os.sep) + os.sep):
        raise RowError("picture outside media folder", where, f"the path {path!r} leaves the media folder {root!r}")
    return Path(full)


def _from_mapping(value: Mapping, where: str, media: Media) -> LazyPicture:
    if value.get("bytes") is not None:
        return picture(value["bytes"], where, media)
    for key in ("path", "url", "image"):
        if value.get(key) is not None:
            return picture(value[key], where, media)
    keys = ", ".join(map(str, value)) or "nothing"
    raise RowError("picture missing", where, f"a picture is given as a mapping of {keys}, without bytes or a path")


def _from_text(text: str, where: str, media: Media) -> LazyPicture:
    head = DATA_URI.match(text[:100])
    if head:
        try:
            return LazyPicture(where=where, data=base64.b64decode(text[head.end() :], validate=True))
        except binascii.Error as error:
            raise RowError("picture undecodable", where, f"a data URI is not base64: {error}") from error
    if text.startswith("file://"):
        text = text.removeprefix("file://")
    elif URL.match(text):
        if media.allow_urls and WEB.match(text):
            return LazyPicture(where=where, url=text)
        raise RowError("picture from the network", where, f"the picture is the URL {text[:120]!r}")
    return LazyPicture(where=where, path=inside(text, where, media.folder))


def _from_array(array: np.ndarray, where: str) -> Image.Image:
    if array.dtype != np.uint8 or array.ndim not in (2, 3) or (array.ndim == 3 and array.shape[2] not in (3, 4)):
        what = f"a picture is an array of {array.dtype} and shape {array.shape}; expected uint8 [height, width, 3]"
        raise RowError("column has the wrong type", where, what)
    return Image.fromarray(array)
