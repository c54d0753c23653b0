"""Images of every kind, whole and hostile, become upright RGB or an error that names file and row."""

import base64
import io
import struct
import zlib
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from tests.drawn import drawn

from sightline.data.defects import RowError
from sightline.data.media.find import Media, image, images
from sightline.data.media.images import MAX_PIXELS, LazyImage

WHERE = "pairs.parquet, row 3"
PIXELS = np.arange(20 * 30 * 3, dtype=np.uint8).reshape(20, 30, 3)
PHOTO = Image.fromarray(PIXELS)


def encoded(image: Image.Image, format: str = "PNG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, format, **options)
    return buffer.getvalue()


def opened(data: bytes) -> Image.Image:
    return LazyImage(where=WHERE, data=data).open()


def refusal(data: bytes) -> RowError:
    with pytest.raises(RowError) as caught:
        opened(data)
    assert str(caught.value).startswith(WHERE)
    return caught.value


def test_bytes_a_path_and_an_open_image_give_the_same_pixels(tmp_path):
    (tmp_path / "photo.png").write_bytes(encoded(PHOTO))
    sources = [
        encoded(PHOTO),
        "photo.png",
        PHOTO,
        PIXELS,
        {"bytes": encoded(PHOTO), "path": None},
        {"path": "photo.png"},
    ]
    sources += [{"url": "data:image/png;base64," + base64.b64encode(encoded(PHOTO)).decode()}, tmp_path / "photo.png"]
    for source in sources:
        read = image(source, WHERE, Media(tmp_path)).open()
        assert read.mode == "RGB"
        np.testing.assert_array_equal(np.asarray(read), PIXELS)


def test_exif_rotation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6  # turn by 90°
    image = opened(encoded(PHOTO, "PNG", exif=exif))
    assert image.size == (20, 30)
    np.testing.assert_array_equal(np.asarray(image), np.rot90(PIXELS, -1))


def test_cmyk_becomes_rgb():
    image = opened(encoded(Image.new("CMYK", (8, 8), (0, 255, 255, 0)), "JPEG"))
    assert image.mode == "RGB"
    red, green, blue = image.getpixel((4, 4))
    assert red > 200 and green < 60 and blue < 60


def test_sixteen_bit_grey_is_scaled_and_not_clipped():
    ramp = np.linspace(0, 65535, 256).astype(np.uint16).reshape(16, 16)
    image = opened(encoded(Image.fromarray(ramp)))
    np.testing.assert_allclose(np.asarray(image)[..., 0], ramp / 257, atol=1)


def test_transparency_is_laid_over_white():
    pixel = Image.new("RGBA", (2, 1), (0, 0, 0, 0))
    pixel.putpixel((1, 0), (255, 0, 0, 255))
    assert [opened(encoded(pixel)).getpixel((x, 0)) for x in (0, 1)] == [(255, 255, 255), (255, 0, 0)]
    palette = Image.new("P", (1, 1), 0)
    assert opened(encoded(palette, transparency=0)).getpixel((0, 0)) == (255, 255, 255)


def test_the_first_frame_stands_for_an_animated_gif():
    frames = [Image.new("RGB", (4, 4), colour) for colour in ("red", "blue")]
    data = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert opened(data).getpixel((0, 0)) == (255, 0, 0)


def test_grey_palette_and_bilevel_become_rgb():
    for mode in ("L", "P", "1"):
        assert opened(encoded(PHOTO.convert(mode))).mode == "RGB"


def test_a_truncated_jpeg_is_refused():
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)), "JPEG")
    assert refusal(whole[: len(whole) // 2]).defect == "image undecodable"


def test_a_decompression_bomb_is_refused_before_it_is_decoded():
    side = int(MAX_PIXELS**0.5) + 10
    header = struct.pack(">IIBBBBB", side, side, 1, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0" * 1000)), (b"IEND", b"")]
    bomb = b"\x89PNG\r\n\x1a\n"
    for name, body in chunks:
        bomb += struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
    assert "more than" in str(refusal(bomb))
    huge = bomb.replace(header[:8], struct.pack(">II", 50000, 50000))  # past Pillow's own error
    assert refusal(huge).defect == "image undecodable"


def test_a_program_for_a_printer_is_not_run():
    assert "cannot be decoded" in str(refusal(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n"))


def test_a_missing_file_is_named(tmp_path):
    with pytest.raises(RowError, match=r"pairs.parquet, row 3: no file .*cat\.jpg.*media_dir"):
        image("cat.jpg", WHERE, Media(tmp_path)).open()
    with pytest.raises(RowError, match="image missing"):
        image("a" * 5000, WHERE, Media(tmp_path)).open()


@pytest.mark.parametrize("path", ["../secret.png", "a/../../secret.png", "/etc/secret.png", "file:///etc/secret.png"])
def test_a_path_that_climbs_out_of_the_media_folder_is_refused(tmp_path, path):
    media = tmp_path / "media"
    media.mkdir()
    (tmp_path / "secret.png").write_bytes(encoded(PHOTO))
    with pytest.raises(RowError, match="leaves the media folder") as caught:
        image(path, WHERE, Media(media))
    assert caught.value.defect == "image outside media folder"


def test_an_absolute_path_inside_the_media_folder_is_read(tmp_path):
    (tmp_path / "photo.png").write_bytes(encoded(PHOTO))
    assert image(str(tmp_path / "photo.png"), WHERE, Media(tmp_path)).open().size == (30, 20)


@pytest.mark.parametrize(
    "url", ["https://example.org/cat.jpg", "http://x/y.png", "ftp://x/y.png", "s3://bucket/cat.jpg"]
)
def test_a_url_is_refused(tmp_path, url):
    with pytest.raises(RowError, match="image from the network"):
        image({"url": url}, WHERE, Media(tmp_path))


def test_an_address_is_fetched_once_where_it_is_allowed(tmp_path, monkeypatch):
    monkeypatch.setenv("SIGHTLINE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "photo.png").write_bytes(encoded(PHOTO))
    handler = partial(SimpleHTTPRequestHandler, directory=str(tmp_path))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        address = f"http://127.0.0.1:{server.server_port}"
        allowed = Media(tmp_path, allow_urls=True)
        shown = image(f"{address}/photo.png", WHERE, allowed)
        np.testing.assert_array_equal(np.asarray(shown.open()), PIXELS)
        with pytest.raises(RowError, match="cannot be fetched: HTTP Error 404"):
            image(f"{address}/none.png", WHERE, allowed).open()
        server.shutdown()
    assert shown.open().size == (30, 20)  # from the cache: the server is gone
    with pytest.raises(RowError, match="image from the network"):
        image("ftp://x/y", WHERE, allowed)


def test_a_nul_byte_in_a_path_is_refused(tmp_path):
    with pytest.raises(RowError, match="NUL byte"):
        image("cat\0.jpg", WHERE, Media(tmp_path))


def test_values_that_are_no_images_are_named():
    for value in (
        3,
        True,
        {"size": 3},
        PIXELS.astype(np.float32),
        np.zeros((2, 2, 2, 2), np.uint8),
        {"path": {"x": 1}},
    ):
        with pytest.raises(RowError):
            image(value, WHERE, Media())
    assert images(None, WHERE, Media()) == ()
    with pytest.raises(RowError, match=r"images\[1\] is null, of 3"):
        images([PHOTO, None, PHOTO], WHERE, Media())


def test_equal_images_have_equal_keys_and_different_ones_do_not(tmp_path):
    other = Image.fromarray(PIXELS[::-1].copy())
    data = [LazyImage(where=w, data=encoded(PHOTO)).key for w in ("a", "b")]
    assert data[0] == data[1] != LazyImage(where="c", data=encoded(other)).key
    assert LazyImage(where="a", image=PHOTO).key != LazyImage(where="a", image=other).key
    assert LazyImage(where="a", path=Path("x.png")).key != LazyImage(where="a", path=Path("y.png")).key


def test_size_is_known_without_decoding():
    whole = encoded(PHOTO, "JPEG")
    assert LazyImage(where=WHERE, data=whole[:-20]).size == (30, 20)


def test_errors_survive_the_way_out_of_a_worker():
    import pickle

    error = refusal(b"")
    again = pickle.loads(pickle.dumps(error))
    assert str(again) == str(error) and again.defect == error.defect


SEEDS = [encoded(PHOTO, name) for name in ("PNG", "JPEG", "GIF", "BMP", "TIFF", "WEBP", "PPM")]


@settings(max_examples=drawn(150), deadline=None)
@given(
    st.sampled_from(SEEDS),
    st.lists(st.tuples(st.integers(0, 2000), st.integers(0, 255)), max_size=12),
    st.integers(0, 2000),
)
def test_damaged_files_are_refused_or_read_and_nothing_else(seed, changes, cut):
    data = bytearray(seed[: max(cut, 10)] if cut < 400 else seed)
    for position, value in changes:
        data[position % len(data)] = value
    try:
        image = opened(bytes(data))
    except RowError as error:
        assert error.defect == "image undecodable"
    else:
        assert image.mode == "RGB"
