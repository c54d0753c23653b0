"""A decoded image of any kind → upright 8-bit RGB, on white where it is transparent.

Scales are fixed, so that two images of one kind compare: 16-bit grey is v / 257 however bright it is. Color profiles
are left out.
"""

from collections.abc import Callable

import numpy as np
from PIL import Image, ImageOps

DEEPEST = 65535
"""The largest value of 16 bits."""
BRIGHT = 32
"""A peak of float grey from which its scale is taken for 0…255; 0…1 ends far below."""
OVERSHOOT = 2.0
"""A peak up to which float grey is 0…1, sharpened or resampled beyond its ends."""


def to_rgb(image: Image.Image) -> Image.Image:
    """Upright 8-bit RGB of a loaded image of any mode: 16-bit scaled, transparency over white, CMYK converted."""
    image = ImageOps.exif_transpose(image)
    if image.mode in ("I", "F") or image.mode.startswith("I;16"):
        return _deep_grey(image).convert("RGB")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        alpha = image.convert("RGBA")
        white = Image.new("RGBA", alpha.size, "white")
        return Image.alpha_composite(white, alpha).convert("RGB")
    return image.convert("RGB")


def decoded(image: Image.Image, again: Callable[[], Image.Image]) -> Image.Image:
    """An open image loaded, as RGB.

    The color that a PNG calls transparent (its tRNS chunk) is compared in the file's own depth. again: opens the file
    once more, for the lower halves of 16-bit colors, which the decoder leaves out.
    """
    stored = str(image.tile[0][3]) if getattr(image, "tile", None) and image.format == "PNG" else ""
    image.load()
    key = image.info.get("transparency")
    if key is None or isinstance(key, bytes) or image.mode not in ("L", "RGB", "I", "I;16"):
        return to_rgb(image)
    is_clear = _is_clear(image, key, stored, again)
    shown = _deep_grey(image) if image.mode in ("I", "I;16") else image
    whole = Image.new("RGB", image.size)
    whole.paste(shown)
    whole.paste("white", mask=Image.fromarray(is_clear.astype(np.uint8) * 255))
    whole.info = {name: value for name, value in image.info.items() if name != "transparency"}
    return to_rgb(whole)


def _is_clear(
    image: Image.Image, key: int | tuple[int, ...], stored: str, again: Callable[[], Image.Image]
) -> np.ndarray:
    """Where the pixels are of the transparent color, [height, width]."""
    pixels = np.asarray(image)
    if isinstance(key, int):
        return pixels == key * {"L;2": 85, "L;4": 17}.get(stored, 1)
    color = np.array(key)
    if stored != "RGB;16B":
        return (pixels == color).all(-1)
    low = again()
    if low is image:  # an image that was opened elsewhere: its lower halves are gone
        return (pixels == color >> 8).all(-1)
    low.tile = [tile._replace(args="RGB;16L") for tile in low.tile]  # type: ignore[attr-defined]
    low.load()
    return ((pixels == color >> 8) & (np.asarray(low) == color & 255)).all(-1)


def _deep_grey(image: Image.Image) -> Image.Image:
    """16-bit, 32-bit and float grey in 8 bits: Pillow's own conversion clips at 255 and leaves white."""
    grey = np.nan_to_num(np.asarray(image).astype(np.float64), nan=0.0)
    low, peak = float(grey.min(initial=0.0)), float(grey.max(initial=0.0))
    if image.mode != "F":
        if low < 0 or peak > DEEPEST:
            raise ValueError(f"its grey goes from {low:g} to {peak:g}; 16 bits are read. Save it in 8 or 16 bits")
        scale = 1 / 257
    else:
        scale = _float_scale(grey, low, peak)
    return Image.fromarray((grey * scale).clip(0, 255).round().astype(np.uint8))


def _float_scale(grey: np.ndarray, low: float, peak: float) -> float:
    """What 0…1, 0…255 and 0…65535 are multiplied by. Raises `ValueError` where none of them is likely."""
    is_whole = bool((grey == np.floor(grey)).all())
    if low >= -0.1 and peak <= OVERSHOOT and not (is_whole and peak > 1):
        return 255.0
    if low >= 0 and peak <= DEEPEST and (is_whole or peak > BRIGHT):
        return 1.0 if peak <= 255 else 1 / 257
    raise ValueError(
        f"its grey goes from {low:g} to {peak:g}: of floats, 0 to 1 and 0 to 255 are read. Save it in 8 bits, or scaled"
    )
