"""Whether bytes or a file's name are those of an image, a film or a sound."""

import re
from typing import Literal

Kind = Literal["image", "video", "audio"]

EXTENSIONS: dict[Kind, str] = {
    "image": "jpe?g|jfif|png|webp|gif|bmp|tiff?|avif|jp2|j2k|heic|heif|ppm|pgm|svg|jxl|ico|dng|dcm",
    "video": "mp4|m4v|mov|avi|mkv|webm|mpe?g|wmv|flv|3gp|ogv",
    "audio": "wav|mp3|flac|ogg|oga|opus|m4a|aac|wma|aiff?",
}
NAME = re.compile(
    r"\.(?:" + "|".join(f"(?P<{kind}>{ends})" for kind, ends in EXTENSIONS.items()) + r")(?:[?#]\S*)?$", re.IGNORECASE
)
LONGEST_NAME = 1024
"""Characters above which a text is no file's name."""

STARTS: tuple[tuple[bytes, Kind], ...] = (
    (b"\xff\xd8\xff", "image"), (b"\x89PNG\r\n", "image"), (b"GIF8", "image"),
    (b"II*\0", "image"), (b"MM\0*", "image"), (b"\0\0\0\x0cjP  ", "image"), (b"P5\n", "image"), (b"P6\n", "image"),
    (b"\x1aE\xdf\xa3", "video"), (b"\0\0\x01\xba", "video"), (b"FLV\x01", "video"),
    (b"ID3", "audio"), (b"\xff\xfb", "audio"), (b"fLaC", "audio"), (b"OggS", "audio"),
)  # fmt: skip
RIFF: dict[bytes, Kind] = {b"WEBP": "image", b"AVI ": "video", b"WAVE": "audio"}
IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"mif1", b"msf1")
"""Brands of ISO files that are images; the others are films, or sounds (M4A)."""


def kind_of_bytes(data: bytes) -> Kind | None:
    """By the first bytes; None for anything else."""
    if data[:4] == b"RIFF":
        return RIFF.get(data[8:12])
    if data[4:8] == b"ftyp":
        brand = data[8:12]
        return "image" if brand in IMAGE_BRANDS else "audio" if brand.startswith(b"M4A") else "video"
    if data[:2] == b"BM" and data[6:10] == bytes(4):
        return "image"
    return next((kind for start, kind in STARTS if data.startswith(start)), None)


def kind_of_name(text: str) -> Kind | None:
    """By the extension of a path or address on one line; None for any other text."""
    if len(text) > LONGEST_NAME or "\n" in text:
        return None
    found = NAME.search(text)
    return next((kind for kind in EXTENSIONS if found.group(kind)), None) if found else None
