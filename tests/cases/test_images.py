"""Images as public reports have them, against pixels worked out from the formats' own rules."""

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image, PngImagePlugin

from sightline.data.checks.examine import Examiner
from sightline.data.defects import RowError
from sightline.data.media.images import LazyImage
from sightline.data.sources.load import rows_of

WHITE = (255, 255, 255)


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(depth: int, color_type: int, row: bytes, width: int, *chunks: tuple[bytes, bytes]) -> bytes:
    """A PNG of one row, written by the specification."""
    header = struct.pack(">IIBBBBB", width, 1, depth, color_type, 0, 0, 0)
    whole = [(b"IHDR", header), *chunks, (b"IDAT", zlib.compress(b"\0" + row)), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunk(*one) for one in whole)


def shorts(*values: int) -> bytes:
    return struct.pack(f">{len(values)}H", *values)


def opened(data: bytes) -> np.ndarray:
    return np.asarray(LazyImage(where="rows, row 0", data=data).open())


def saved(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("name", "data", "right"),
    [
        ("grey 1", png(1, 0, bytes([0b01000000]), 3, (b"tRNS", b"\0\1")), [0, 255, 0]),
        ("grey 1, black", png(1, 0, bytes([0b01000000]), 3, (b"tRNS", b"\0\0")), [255, 255, 255]),
        ("grey 2", png(2, 0, bytes([0b00011011]), 4, (b"tRNS", b"\0\1")), [0, 255, 170, 255]),
        ("grey 4", png(4, 0, bytes([0x01, 0x2F]), 4, (b"tRNS", b"\0\2")), [0, 17, 255, 255]),
        ("grey 8", png(8, 0, bytes([0, 7, 200]), 3, (b"tRNS", b"\0\7")), [0, 255, 200]),
        ("grey 16", png(16, 0, shorts(300, 301, 65535), 3, (b"tRNS", shorts(300))), [255, 1, 255]),
        ("color 8", png(8, 2, bytes([9, 0, 0, 9, 0, 1]), 2, (b"tRNS", shorts(9, 0, 0))), [WHITE, (9, 0, 1)]),
        ("color 8, black", png(8, 2, bytes(6), 2, (b"tRNS", bytes(6))), [WHITE, WHITE]),
        ("color 16", png(16, 2, shorts(258, 0, 0, 257, 0, 0), 2, (b"tRNS", shorts(258, 0, 0))), [WHITE, (1, 0, 0)]),
        ("palette", png(8, 3, bytes([0, 1]), 2, (b"PLTE", bytes([9, 9, 9, 7, 7, 7])), (b"tRNS", b"\0")),
         [WHITE, (7, 7, 7)]),
        ("palette, half", png(8, 3, b"\0", 1, (b"PLTE", bytes([0, 0, 0])), (b"tRNS", b"\x80")), [(127, 127, 127)]),
        ("no transparency", png(8, 2, bytes([9, 0, 0]), 1), [(9, 0, 0)]),
    ],
)  # fmt: skip
def test_the_transparent_color_of_a_png_is_white(name, data, right):
    """transformers #49003."""
    expected = [(value,) * 3 if isinstance(value, int) else value for value in right]
    assert opened(data)[0].tolist() == [list(pixel) for pixel in expected]


def test_a_turned_png_keeps_its_transparency():
    image = Image.new("RGB", (3, 2), (9, 9, 9))
    image.putpixel((0, 0), (1, 2, 3))
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = opened(saved(image, "PNG", transparency=(1, 2, 3), exif=exif))
    assert turned.shape == (3, 2, 3) and turned[0, 1].tolist() == [255] * 3 and turned[0, 0].tolist() == [9] * 3


@pytest.mark.parametrize("peak", [1, 255, 256, 4095, 65535])
@pytest.mark.parametrize(("kind", "dtype"), [("PNG", np.uint16), ("TIFF", np.uint16), ("TIFF", np.int32)])
def test_deep_grey_has_one_scale_however_bright_it_is(kind, dtype, peak):
    """Pillow #2574, #5991."""
    ramp = np.linspace(0, peak, 64).astype(dtype).reshape(8, 8)
    assert np.array_equal(opened(saved(Image.fromarray(ramp), kind))[..., 0], np.round(ramp / 257).astype(np.uint8))


@pytest.mark.parametrize(
    ("grey", "scale"),
    [
        (np.linspace(0, 1, 64), 255), (np.linspace(0, 0.5, 64), 255), (np.linspace(0, 1.5, 64), 255),
        (np.linspace(-0.05, 1, 64), 255), (np.linspace(0, 255, 64), 1), (np.arange(64), 1),
        (np.arange(64) * 1000, 1 / 257),
    ],
)  # fmt: skip
def test_float_grey_is_0_to_1_or_0_to_255(grey, scale):
    image = Image.fromarray(grey.astype(np.float32).reshape(8, 8))
    expected = np.clip(grey.astype(np.float32).reshape(8, 8) * scale, 0, 255)
    np.testing.assert_allclose(opened(saved(image, "TIFF"))[..., 0], expected, atol=0.51)


@pytest.mark.parametrize(
    "grey", [np.linspace(0, 10, 64), np.linspace(-1, 1, 64), np.linspace(0, 1e6, 64), [np.inf] * 64]
)
def test_grey_of_no_known_scale_is_named(grey):
    image = Image.fromarray(np.array(grey, np.float32).reshape(8, 8))
    with pytest.raises(RowError, match="0 to 1 and 0 to 255 are read"):
        opened(saved(image, "TIFF"))
    with pytest.raises(RowError, match="16 bits are read"):
        opened(saved(Image.fromarray(np.full((8, 8), -3, np.int32)), "TIFF"))


def test_a_png_with_long_texts_or_a_large_profile_is_read():
    """LLaMA-Factory #6300, Pillow #8363."""
    image = Image.fromarray(np.arange(64 * 3, dtype=np.uint8).reshape(8, 8, 3))
    exif = Image.Exif()
    exif[0x0112] = 3
    texts = [PngImagePlugin.PngInfo() for _ in range(4)]
    texts[0].add_text("parameters", "x" * 3_000_000)
    texts[1].add_text("parameters", "x" * 3_000_000, zip=True)
    texts[2].add_itxt("workflow", "x" * 3_000_000, zip=True)
    for i in range(80):
        texts[3].add_text(f"part {i}", "x" * 1_000_000, zip=True)
    files = [saved(image, "PNG", pnginfo=info, exif=exif) for info in texts]
    files.append(saved(image, "PNG", icc_profile=bytes(2_000_000), exif=exif))
    for data in files:
        assert np.array_equal(opened(data), np.asarray(image)[::-1, ::-1])
        small = LazyImage(where="x", data=data).open_small()
        assert small.size == LazyImage(where="x", data=data).size == (8, 8)


def test_pages_and_frames_are_counted():
    """aleph #20, MMInstruct #4."""
    frames = [Image.new("RGB", (40, 40), color) for color in ("red", "green", "blue")]
    more = {"save_all": True, "append_images": frames[1:]}
    files = {kind: saved(frames[0], kind, **more) for kind in ("TIFF", "WEBP", "PNG", "GIF")}
    files["JPEG"] = saved(frames[0], "JPEG")
    rows = rows_of([{"image": data, "question": f"{kind}?", "answer": "Red."} for kind, data in files.items()])
    for kind, entry in zip(files, rows.entries(), strict=True):
        defects = dict(Examiner()(entry).defects)
        assert ("several frames" in defects) == (kind != "JPEG")
        assert kind == "JPEG" or "3 pages or frames" in defects["several frames"]


def test_a_small_copy_of_a_page_is_no_page():
    page, copy = Image.new("L", (40, 40)), Image.new("L", (10, 10))
    copy.encoderinfo = {"tiffinfo": {254: 1}}
    data = saved(page, "TIFF", save_all=True, append_images=[copy])
    assert LazyImage(where="x", data=data).open_small().num_frames == 1


def test_open_images_of_equal_bytes_are_told_apart():
    wide, tall = Image.new("RGB", (100, 50)), Image.new("RGB", (50, 100))
    red, blue = Image.new("P", (8, 8), 1), Image.new("P", (8, 8), 1)
    red.putpalette([0, 0, 0, 255, 0, 0])
    blue.putpalette([0, 0, 0, 0, 0, 255])
    keys = [LazyImage(where="x", image=image).key for image in (wide, tall, red, blue)]
    assert len(set(keys)) == 4


def test_a_image_in_a_image_is_no_image():
    deep: dict[str, Any] = {"path": "a.png"}
    for _ in range(500):
        deep = {"path": deep}
    with pytest.raises(RowError, match="an image's path is a mapping"):
        rows_of([{"image": deep, "question": "Which?", "answer": "Red."}]).example(0)
