"""Images from http(s) addresses, for sources that allow them; each is fetched once into the user's cache folder."""

import hashlib
import os
import urllib.error
import urllib.request
from pathlib import Path

from sightline.data.defects import RowError
from sightline.files import whole_file

MAX_BYTES = 64 * 2**20
"""Bytes of the largest image that is fetched."""
TIMEOUT = 30
"""Seconds without an answer after which a fetch is given up."""


def cache_folder() -> Path:
    """`SIGHTLINE_CACHE`, or `sightline` in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("SIGHTLINE_CACHE") or Path(home) / "sightline")


def fetched(url: str, where: str) -> Path:
    """The image at `url` as a file. Raises `RowError` when the server does not give one."""
    file = cache_folder() / "images" / hashlib.sha256(url.encode()).hexdigest()
    if file.is_file():
        return file
    try:
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            content = response.read(MAX_BYTES + 1)
    except (OSError, ValueError, urllib.error.URLError) as error:
        raise RowError("image missing", where, f"{url[:120]!r} cannot be fetched: {error}") from error
    if len(content) > MAX_BYTES:
        raise RowError("image undecodable", where, f"{url[:120]!r} has more than {MAX_BYTES:,} bytes")
    with whole_file(file, shared=True) as aside:
        aside.write_bytes(content)
    return file
