"""PNG files without what is not pixels: Pillow refuses whole files for a large text or color profile in them."""

import io
import struct

HEAD = b"\x89PNG\r\n\x1a\n"
LARGEST_TEXT = 2**16
"""Bytes of a plain text that is kept; it may say how the image is turned."""
LARGEST = 256 * 2**20
"""Bytes of pixels that are kept."""


def without_texts(file: io.BufferedIOBase) -> bytes:
    """The file up to its end mark, without color profiles and long texts. Raises `ValueError` for what is no PNG."""
    if file.read(len(HEAD)) != HEAD:
        raise ValueError("it is not a PNG file")
    kept, size = [HEAD], 0
    while len(head := file.read(8)) == 8:
        length, name = struct.unpack(">I4s", head)
        if name in (b"iCCP", b"zTXt") or (name in (b"tEXt", b"iTXt") and length > LARGEST_TEXT):
            file.seek(length + 4, 1)
            continue
        size += length
        if size > LARGEST:
            raise ValueError(f"it has more than {LARGEST:,} bytes")
        body = file.read(length + 4)
        if name == b"iTXt" and b"\0\1" in body[:80]:  # compressed: how long it is shows only when it is unpacked
            continue
        kept += [head, body]
        if name == b"IEND":
            break
    return b"".join(kept)
