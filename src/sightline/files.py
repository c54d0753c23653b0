"""Files that are whole or not there at all, and what a run's files are called."""

import os
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

RECIPE = "recipe.yaml"
METRICS = "metrics.jsonl"
RUN_CARD = "sightline.json"
MODEL_CARD = "README.md"


@contextmanager
def whole_file(path: Path, *, shared: bool = False) -> Iterator[Path]:
    """A path to write to instead; the file takes its real name when the block ends, and goes away when it raises.

    shared: several processes may write the same file at once; each writes its own, and the last one stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    aside = path.with_name(f".{path.name}.{os.getpid()}.part" if shared else f".{path.name}.part")
    try:
        yield aside
        os.replace(aside, path)
    finally:
        aside.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a file so that it is either the old one or the whole new one."""
    with whole_file(path) as aside:
        aside.write_text(text, encoding="utf-8")


def page(package: str, template: str, filters: dict[str, Callable[..., Any]] | None = None, /, **values: object) -> str:
    """An HTML page from a package's Jinja template; an undefined name is an error."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    environment = Environment(
        loader=PackageLoader(package, "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters.update(data_uri=data_uri, **(filters or {}))
    return environment.get_template(template).render(**values)


def data_uri(image: "bytes | Image") -> str:
    """An image as a data URI: PNG, JPEG, GIF or WebP bytes as they are, an open image as PNG."""
    if not isinstance(image, bytes):
        buffer = BytesIO()
        image.save(buffer, "PNG")
        image = buffer.getvalue()
    kinds = {b"\x89PNG": "png", b"\xff\xd8\xff": "jpeg", b"GIF8": "gif", b"RIFF": "webp"}
    kind = next((kind for magic, kind in kinds.items() if image.startswith(magic)), None)
    if kind is None:
        raise ValueError(f"A data URI holds a PNG, JPEG, GIF or WebP image; these bytes begin with {image[:8]!r}.")
    return f"data:image/{kind};base64,{b64encode(image).decode()}"
