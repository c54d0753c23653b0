"""An image that is read when it is needed, and then decoded to upright 8-bit RGB on white.

Of several pages or frames the first stands for the image; `Small.num_frames` says how many there are.
"""

import hashlib
import io
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image

from sightline.data.defects import RowError
from sightline.data.media.almost import almost
from sightline.data.media.pixels import decoded
from sightline.data.media.png import without_texts
from sightline.data.sources.download import fetched

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow's other readers start programs (EPS) or are not images that people train on."""

MAX_PIXELS = 89_478_485
"""Pixels above which a file is taken for a decompression bomb; Pillow warns from the same number on."""


MAX_BYTES = 256 * 2**20
"""Bytes of the largest file that is copied as it is."""
NEW_SUBFILE_TYPE = 254
"""TIFF's tag that tells a page from a smaller copy of one."""


class Small(NamedTuple):
    """Size as stored, (width, height); the image, RGB, smaller where the format allows; its pages or frames."""

    size: tuple[int, int]
    image: Image.Image
    num_frames: int


@dataclass(frozen=True, kw_only=True)
class LazyImage:
    """One image of a row: encoded `data`, a `path`, a `url`, or an `image` already open; exactly one is given.

    where: source and row, for errors.
    """

    where: str
    data: bytes | None = None
    path: Path | None = None
    url: str | None = None
    image: Image.Image | None = None

    def open(self) -> Image.Image:
        """Decode to RGB, upright (EXIF applied), transparency over white. Raises `RowError` naming file and row."""
        return self._use(decoded)

    def open_small(self) -> Small:
        """Decoded as small as the format allows above 96 pixels; the whole file is read. Raises `RowError`."""

        def look(image: Image.Image, again: Callable[[], Image.Image]) -> Small:
            size = image.size
            num_frames = _num_frames(image)
            if self.image is None:
                image.draft("RGB", (96, 96))
            return Small(size, decoded(image, again), num_frames)

        return self._use(look)

    def encoded(self) -> bytes:
        """The file as it is; PNG for an open image. Raises `RowError` when there is none, or one too large to embed."""
        if self.data is not None:
            return self.data
        if self.image is not None:
            buffer = io.BytesIO()
            self.image.save(buffer, "PNG")
            return buffer.getvalue()
        file = self._file()
        size = file.stat().st_size
        if size > MAX_BYTES:
            raise self._undecodable(f"its file has {size:,} bytes, more than {MAX_BYTES:,} are not embedded")
        return file.read_bytes()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored, from the header alone. Raises `RowError`."""
        return self._use(lambda image, again: image.size)

    @property
    def num_frames(self) -> int:
        """Pages or frames, of which the first stands for the image; from headers alone. Raises `RowError`."""
        return self._use(lambda image, again: _num_frames(image))

    @property
    def key(self) -> str:
        """The same for two images from the same bytes, path or pixels; nothing is decoded to compute it."""
        if self.path is not None or self.url is not None:
            return f"path:{self.path or self.url}"
        if self.image is None:
            assert self.data is not None
            return hashlib.sha1(self.data, usedforsecurity=False).hexdigest()
        # equal bytes are other images in another shape, or with other colors behind them
        about = (self.image.mode, self.image.size, self.image.getpalette(), self.image.info.get("transparency"))
        digest = hashlib.sha1(repr(about).encode(), usedforsecurity=False)
        digest.update(self.image.tobytes())
        return digest.hexdigest()

    def _use(self, use: Callable[[Image.Image, Callable[[], Image.Image]], Any]) -> Any:
        """What `use` makes of the open image, its header read; it may open it once more. Raises `RowError`."""
        # Pillow's readers raise a dozen exception types on damaged files; every one means the same to the user.
        try:
            return use(self._read(), self._read)
        except RowError:
            raise
        except Exception as error:
            if not _is_about_texts(error):
                raise self._undecodable(error) from error
        try:
            return use(self._read_pixels(), self._read_pixels)
        except RowError:
            raise
        except Exception as error:
            raise self._undecodable(error) from error

    def _read(self) -> Image.Image:
        if self.image is not None:
            return self._not_too_large(self.image)
        source = io.BytesIO(self.data) if self.data is not None else self._file()
        return self._not_too_large(Image.open(source, formats=_readable_formats()))

    def _read_pixels(self) -> Image.Image:
        """A PNG without its texts and color profile."""
        with io.BytesIO(self.data) if self.data is not None else self._file().open("rb") as source:
            bare = without_texts(source)
        return self._not_too_large(Image.open(io.BytesIO(bare), formats=("PNG",)))

    def _not_too_large(self, image: Image.Image) -> Image.Image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise self._undecodable(f"it claims {width} × {height} pixels, more than {MAX_PIXELS} are refused")
        return image

    def _file(self) -> Path:
        if self.url is not None:
            return fetched(self.url, self.where)
        assert self.path is not None
        try:
            found = self.path.is_file()
        except (OSError, ValueError):
            found = False
        if not found:
            raise RowError("image missing", self.where, f"no file {str(self.path)!r:.300}{almost(self.path)}")
        return self.path

    def _undecodable(self, reason: Exception | str) -> RowError:
        given = self.path or self.url
        name = f"image {str(given)!r:.300}" if given is not None else "the embedded image"
        return RowError("image undecodable", self.where, f"{name} cannot be decoded: {reason}")


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _is_about_texts(error: Exception) -> bool:
    """Whether Pillow refuses a PNG for its texts or its color profile, and not for its pixels."""
    return isinstance(error, ValueError) and any(name in str(error) for name in ("MAX_TEXT_CHUNK", "MAX_TEXT_MEMORY"))


def _num_frames(image: Image.Image) -> int:
    """Pages or frames; a small copy of a page (TIFF) or of a photograph (MPO) is none."""
    num_frames = getattr(image, "n_frames", 1) if image.format != "MPO" else 1
    if num_frames > 1 and image.format == "TIFF":
        pages = 0
        for number in range(num_frames):
            image.seek(number)
            pages += not image.tag_v2.get(NEW_SUBFILE_TYPE, 0) & 1  # type: ignore[attr-defined]
        num_frames = pages
        image.seek(0)
    return num_frames
