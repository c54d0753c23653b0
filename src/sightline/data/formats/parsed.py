"""What a format's parser makes of a row."""

from dataclasses import dataclass

from sightline.data.formats.content import Message
from sightline.data.media.images import LazyImage
from sightline.types import Response


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Prompt, images and responses of a row.

    consumed: columns that became messages or images and are not repeated in `Example.row`. image_columns: columns that
    hold the images, or their names, as well.
    """

    prompt: tuple[Message, ...]
    images: tuple[LazyImage, ...] = ()
    responses: tuple[Response, ...] = ()
    consumed: tuple[str, ...] = ()
    image_columns: tuple[str, ...] = ()
