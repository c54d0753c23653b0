"""The pictures of a row as rewards get them: a sequence of PIL images, each decoded when it is looked at."""

from collections.abc import Sequence
from typing import Any, overload

from PIL.Image import Image

from sightline.types import Picture


class Pictures(Sequence[Image]):
    """`pictures[0]` is an upright RGB image."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self.pictures = tuple(pictures)

    def __len__(self) -> int:
        return len(self.pictures)

    @overload
    def __getitem__(self, index: int) -> Image: ...
    @overload
    def __getitem__(self, index: slice) -> "Pictures": ...
    def __getitem__(self, index: Any) -> Any:
        return Pictures(self.pictures[index]) if isinstance(index, slice) else self.pictures[index].open()
