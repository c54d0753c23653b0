"""A picture that is read when it is needed, and then decoded to upright 8-bit RGB on white.

Left out: animation (the first frame stands for it) and colour profiles.
"""

import hashlib
import io
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from sightline.data.defects import RowError
from sightline.data.sources.download import fetched

FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "JPEG2000", "MPO", "PNG", "PPM", "TIFF", "WEBP")
"""What is decoded. Pillow's other readers start programs (EPS) or are not pictures that people train on."""

MAX_PIXELS = 89_478_485
"""Pixels above which a file is taken for a decompression bomb; Pillow warns from the same number on."""


@dataclass(frozen=True, kw_only=True)
class LazyPicture:
    """One picture of a row: encoded `data`, a `path`, a `url`, or an `image` already open; exactly one is given.

    where: source and row, for errors.
    """

    where: str
    data: bytes | None = None
    path: Path | None = None
    url: str | None = None
    image: Image.Image | None = None

    def open(self) -> Image.Image:
        """Decode to RGB, upright (EXIF applied), transparency over white. Raises `RowError` naming file and row."""
        raw = self._read()
        # Pillow's readers raise a dozen exception types on damaged files; every one means the same to the user.
        try:
            raw.load()
            return to_rgb(raw)
        except Exception as error:
            raise self._undecodable(error) from error

    def open_small(self) -> tuple[tuple[int, int], Image.Image]:
        """Size as stored, and the picture decoded as small as the format allows above 96 pixels, RGB.

        The whole file is read. Raises `RowError`.
        """
        raw = self._read()
        size = raw.size
        try:
            if self.image is None:
                raw.draft("RGB", (96, 96))
            raw.load()
            return size, to_rgb(raw)
        except Exception as error:
            raise self._undecodable(error) from error

    def encoded(self) -> bytes:
        """The file as it is; PNG for an open image. Raises `RowError` when there is none."""
        if self.data is not None:
            return self.data
        if self.image is None:
            return self._file().read_bytes()
        buffer = io.BytesIO()
        self.image.save(buffer, "PNG")
        return buffer.getvalue()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) as stored, from the header alone. Raises `RowError`."""
        return self._read().size

    @property
    def key(self) -> str:
        """The same for two pictures from the same bytes, path or pixels; nothing is decoded to compute it."""
        if self.path is not None or self.url is not None:
            return f"path:{self.path or self.url}"
        content = self.data if self.image is None else self.image.tobytes()
        assert content is not None
        return hashlib.sha1(content, usedforsecurity=False).hexdigest()

    def _read(self) -> Image.Image:
        """The open picture, header read, pixels not yet."""
        if self.image is not None:
            picture = self.image
        else:
            source = io.BytesIO(self.data) if self.data is not None else self._file()
            try:
                picture = Image.open(source, formats=_readable_formats())
            except Exception as error:
                raise self._undecodable(error) from error
        width, height = picture.size
        if width * height > MAX_PIXELS:
            raise self._undecodable(f"it claims {width} × {height} pixels, more than {MAX_PIXELS} are refused")
        return picture

    def _file(self) -> Path:
        if self.url is not None:
            return fetched(self.url, self.where)
        assert self.path is not None
        try:
            found = self.path.is_file()
        except (OSError, ValueError):
            found = False
        if not found:
            raise RowError("picture missing", self.where, f"no file {str(self.path)!r}")
        return self.path

    def _undecodable(self, reason: Exception | str) -> RowError:
        given = self.path or self.url
        name = f"picture {str(given)!r}" if given is not None else "the embedded picture"
        return RowError("picture undecodable", self.where, f"{name} cannot be decoded: {reason}")


@cache
def _readable_formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow can read."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def to_rgb(picture: Image.Image) -> Image.Image:
    """Upright 8-bit RGB of a loaded picture of any mode: 16-bit scaled, transparency over white, CMYK converted."""
    picture = ImageOps.exif_transpose(picture)
    if picture.mode == "RGB":
        return picture.convert("RGB") if "transparency" in picture.info else picture
    if picture.mode in ("I", "F") or picture.mode.startswith("I;16"):
        return _from_deep_grey(picture)
    if picture.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in picture.info:
        alpha = picture.convert("RGBA")
        white = Image.new("RGBA", alpha.size, "white")
        return Image.alpha_composite(white, alpha).convert("RGB")
    return picture.convert("RGB")


def _from_deep_grey(picture: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey: Pillow's own conversion clips at 255 and leaves white."""
    grey = np.nan_to_num(np.asarray(picture).astype(np.float64))
    peak = grey.max(initial=0.0)
    if peak > 65535:
        grey = grey / peak * 255
    elif peak > 255:
        grey = grey / 257
    elif picture.mode == "F" and peak <= 1:
        grey = grey * 255
    return Image.fromarray(grey.clip(0, 255).round().astype(np.uint8)).convert("RGB")
