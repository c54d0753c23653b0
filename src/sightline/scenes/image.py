"""A scene as a row's image: drawn when it is opened, told from others without drawing."""

import io
from dataclasses import dataclass
from functools import lru_cache

from PIL import Image

from sightline.data.media.images import LazyImage
from sightline.scenes.world import SIDE, Scene


@dataclass(frozen=True, kw_only=True)
class SceneImage(LazyImage):
    """The image of a scene, in memory of a few bytes."""

    scene: Scene

    def open(self) -> Image.Image:
        """Draw it: RGB, 64 × 64 pixels."""
        return _drawn(self.scene).copy()

    @property
    def size(self) -> tuple[int, int]:
        """(width, height)."""
        return SIDE, SIDE

    @property
    def key(self) -> str:
        """The same for two images of one scene."""
        return "scene:" + ":".join(map(str, self.scene.seed))

    def png(self) -> bytes:
        """Encoded losslessly, for files."""
        buffer = io.BytesIO()
        self.open().save(buffer, "PNG", compress_level=1)  # the noise does not compress: spend no time on it
        return buffer.getvalue()


@lru_cache(maxsize=4)
def _drawn(scene: Scene) -> Image.Image:
    """Rows on one image follow one another: it is drawn once for all of them."""
    return scene.image()


def image_of(scene: Scene) -> SceneImage:
    """The scene as an image that rows and evaluation items can hold."""
    return SceneImage(where=f"scene {scene.seed[1]} of seed {scene.seed[0]}", scene=scene)
