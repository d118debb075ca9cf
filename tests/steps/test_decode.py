"""Every format and kind of pixel that is decoded, every orientation, and files made to do harm."""

from __future__ import annotations

import io
import struct
import tracemalloc
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from modelport.bundle.manifest import Decode
from modelport.errors import InputError, ModelportError, TooLarge, UnsupportedMedia
from modelport.steps.decode import FORMATS, decode_image
from modelport.tensors import Array

LIMITS = Decode()
COLOURS = np.random.default_rng(0).integers(0, 256, (24, 36, 3), dtype=np.uint8)
SMOOTH = np.stack(np.meshgrid(np.arange(36) * 7, np.arange(24) * 10), -1).astype(np.uint8)
SMOOTH = np.dstack([SMOOTH, np.full((24, 36), 90, np.uint8)])


def encoded(image: Image.Image, kind: str, **options: Any) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def decoded(data: bytes, limits: Decode = LIMITS) -> Array:
    pixels = decode_image(data, limits)
    assert pixels.dtype == np.uint8
    assert pixels.ndim == 3
    assert pixels.shape[2] == 3
    assert pixels.flags.c_contiguous
    return pixels


LOSSLESS = {
    "PNG": {},
    "WEBP": {"lossless": True, "exact": True},
    "BMP": {},
    "TIFF": {},
    "TIFF lzw": {"compression": "tiff_lzw"},
    "TIFF deflate": {"compression": "tiff_adobe_deflate"},
}


@pytest.mark.parametrize("kind", LOSSLESS)
def test_lossless_formats_give_the_very_pixels(kind: str) -> None:
    data = encoded(Image.fromarray(COLOURS), kind.split()[0], **LOSSLESS[kind])
    np.testing.assert_array_equal(decoded(data), COLOURS)


@pytest.mark.parametrize("options", [{}, {"progressive": True}, {"subsampling": 0}, {"quality": 30}], ids=str)
def test_jpeg_gives_what_pillow_gives(options: dict[str, Any]) -> None:
    data = encoded(Image.fromarray(SMOOTH), "JPEG", **options)
    np.testing.assert_array_equal(decoded(data), np.asarray(Image.open(io.BytesIO(data)).convert("RGB")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
@pytest.mark.parametrize("mode", ["L", "1"])
def test_grey_becomes_three_equal_channels(kind: str, mode: str) -> None:
    grey = Image.fromarray(SMOOTH).convert("L").convert(mode)
    pixels = decoded(encoded(grey, kind))
    tolerance = 40 if kind in ("JPEG", "WEBP") else 0
    expected = np.asarray(grey.convert("L"), int)[:, :, None]
    assert np.abs(pixels.astype(int) - expected).max() <= tolerance
    assert kind == "WEBP" or (pixels == pixels[:, :, :1]).all()


def test_cmyk_and_adobes_inversion() -> None:
    data = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "JPEG", quality=95, subsampling=0)
    assert b"Adobe" in data
    assert np.abs(decoded(data).astype(int) - SMOOTH).max() < 20
    tiff = encoded(Image.fromarray(SMOOTH).convert("CMYK"), "TIFF")
    np.testing.assert_array_equal(decoded(tiff), SMOOTH)


def test_of_sixteen_bits_the_upper_eight_are_kept() -> None:
    levels = np.arange(0, 65536, 1024, dtype=np.uint16).reshape(8, 8)
    expected = (levels >> 8).astype(np.uint8)[:, :, None].repeat(3, 2)
    for kind in ("PNG", "TIFF"):
        np.testing.assert_array_equal(decoded(encoded(Image.fromarray(levels), kind)), expected)
    # RGB with 16 bits: Pillow writes none, so the file is made by hand.
    deep = np.random.default_rng(1).integers(0, 65536, (3, 5, 3)).astype(">u2")
    np.testing.assert_array_equal(decoded(png(5, 3, deep.tobytes(), bits=16)), (deep >> 8).astype(np.uint8))


def composite(colour: Array, alpha: Array, ground: tuple[int, int, int]) -> Array:
    exact = (colour * (alpha / 255.0) + np.array(ground) * (1 - alpha / 255.0)).astype(float)
    return np.floor(exact + 0.5)


@pytest.mark.parametrize("ground", [(255, 255, 255), (0, 0, 0), (10, 200, 30)], ids=str)
@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_transparency_lies_on_the_background(kind: str, ground: tuple[int, int, int]) -> None:
    alpha = np.arange(24 * 36, dtype=np.uint32).reshape(24, 36, 1) % 256
    image = Image.fromarray(np.dstack([COLOURS, alpha.astype(np.uint8)]))
    data = encoded(image, kind, **(LOSSLESS["WEBP"] if kind == "WEBP" else {}))
    got = decoded(data, Decode(background=ground))
    assert np.abs(got - composite(COLOURS, alpha, ground)).max() <= 0.5 + 1e-9


def test_grey_and_palettes_with_transparency() -> None:
    limits = Decode(background=(1, 2, 3))
    both = Image.fromarray(np.array([[[9, 255], [200, 0]]], np.uint8), "LA")
    assert decoded(encoded(both, "PNG"), limits).tolist() == [[[9, 9, 9], [1, 2, 3]]]
    palette = Image.new("P", (2, 1))
    palette.putpalette([50, 60, 70, 80, 90, 100])
    palette.putpixel((1, 0), 1)
    for kind in ("PNG", "GIF"):
        data = encoded(palette, kind, transparency=1)
        assert decoded(data, limits).tolist() == [[[50, 60, 70], [1, 2, 3]]]
        assert decoded(encoded(palette, kind), limits).tolist() == [[[50, 60, 70], [80, 90, 100]]]
    keyed = Image.fromarray(np.array([[[5, 6, 7], [8, 9, 10]]], np.uint8))
    assert decoded(encoded(keyed, "PNG", transparency=(5, 6, 7)), limits).tolist() == [
        [[1, 2, 3], [8, 9, 10]]
    ]


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_of_an_animation_the_first_frame_is_shown(kind: str) -> None:
    frames = [Image.new("RGB", (5, 4), colour) for colour in ("red", "lime", "blue")]
    options = {"lossless": True} if kind == "WEBP" else {}
    data = encoded(frames[0], kind, save_all=True, append_images=frames[1:], **options)
    assert decoded(data).reshape(-1, 3).tolist() == [[255, 0, 0]] * 20


def exif(orientation: int) -> Image.Exif:
    notes = Image.Exif()
    notes[0x0112] = orientation
    return notes


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(10))
def test_exif_orientation_is_applied(kind: str, orientation: int) -> None:
    # What a viewer must show, by the definition of tag 274: where row 0 and column 0 of the file lie.
    moves = {
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.transpose(1, 0, 2),
        6: lambda a: a.transpose(1, 0, 2)[:, ::-1],
        7: lambda a: a.transpose(1, 0, 2)[::-1, ::-1],
        8: lambda a: a.transpose(1, 0, 2)[::-1],
    }
    plain = encoded(Image.fromarray(SMOOTH), kind)
    turned = encoded(Image.fromarray(SMOOTH), kind, exif=exif(orientation))
    expected = moves.get(orientation, lambda a: a)(decoded(plain))
    np.testing.assert_array_equal(decoded(turned), expected)


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data:UserWarning")  # Pillow says so, and goes on
def test_damaged_exif_leaves_the_picture() -> None:
    good = encoded(Image.fromarray(SMOOTH), "JPEG")
    for notes in (b"Exif\0\0", b"Exif\0\0II*\0\xff\xff\xff\x7f", b"Exif\0\0MM\0*\0\0\0\x08\xff\xff\x01"):
        np.testing.assert_array_equal(
            decoded(encoded(Image.fromarray(SMOOTH), "JPEG", exif=notes)), decoded(good)
        )


# -- refused ---------------------------------------------------------------------------------------


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, pixels: bytes = b"", bits: int = 8, more: bytes = b"") -> bytes:
    """An RGB PNG with any header."""
    row = width * 3 * bits // 8
    lines = b"".join(b"\0" + pixels[at : at + row] for at in range(0, len(pixels), row or 1))
    header = struct.pack(">IIBBBBB", width, height, bits, 2, 0, 0, 0)
    body = chunk(b"IHDR", header) + more + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


def webp_header(width: int, height: int) -> bytes:
    body = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    body += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", len(body) + 4) + b"WEBP" + body


BOMBS = {
    "png": png(60_000, 60_000, bytes(1000)),
    "jpeg": encoded(Image.fromarray(SMOOTH), "JPEG").replace(
        struct.pack(">BHHB", 8, 24, 36, 3), struct.pack(">BHHB", 8, 65_000, 65_000, 3)
    ),
    "gif": b"GIF89a" + struct.pack("<HHBBB", 65_000, 65_000, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, 9, 9, 0) + b"\x08\x02\x01\x01\0;",
    "gif frame": b"GIF89a" + struct.pack("<HHBBB", 9, 9, 0, 0, 0)
    + b"," + struct.pack("<HHHHB", 0, 0, 65_000, 65_000, 0) + b"\x08\x02\x01\x01\0;",
    "bmp": b"BM" + struct.pack("<IHHI", 100, 0, 0, 54)
    + struct.pack("<IiiHHIIiiII", 40, 60_000, 60_000, 1, 24, 0, 0, 0, 0, 0, 0),
    "webp": webp_header(1 << 14, 1 << 14),
    "webp, 280 terapixels": webp_header(1 << 24, 1 << 24),
}  # fmt: skip


@pytest.mark.parametrize("name", BOMBS)
def test_bombs_are_refused_before_memory_is_taken(name: str) -> None:
    tracemalloc.start()
    try:
        with pytest.raises(TooLarge, match="pixels") as caught:
            decode_image(BOMBS[name], LIMITS)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()
    assert caught.value.http_status == 413


def test_limits_are_the_bundles_own() -> None:
    data = encoded(Image.fromarray(SMOOTH), "PNG")
    assert decoded(data, Decode(max_pixels=24 * 36)).shape == (24, 36, 3)
    with pytest.raises(TooLarge, match="36 x 24 = 864 pixels; at most 863"):
        decode_image(data, Decode(max_pixels=863))
    with pytest.raises(TooLarge, match=f"{len(data)} bytes; at most {len(data) - 1}"):
        decode_image(data, Decode(max_bytes=len(data) - 1))


def test_a_large_picture_within_the_limits_is_decoded_without_a_warning() -> None:
    # Pillow's own limit is at 89 million pixels; the suite turns its warning into an error.
    data = encoded(Image.new("1", (10_000, 9_900)), "PNG")
    assert decode_image(data, LIMITS).shape == (9_900, 10_000, 3)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_truncated_files_are_told(kind: str) -> None:
    data = encoded(Image.fromarray(COLOURS), kind)
    for length in (12, 20, 40, len(data) // 2, len(data) * 9 // 10):
        with pytest.raises(InputError) as caught:
            decode_image(data[:length], LIMITS)
        assert type(caught.value) is InputError
        assert "damaged or cut short" in caught.value.message
        assert caught.value.hint


def test_chunks_made_to_unpack_without_end() -> None:
    zeros = zlib.compress(bytes(64 << 20), 9)
    text = chunk(b"zTXt", b"a\0\0" + zeros)
    profile = chunk(b"iCCP", b"a\0\0" + zeros)
    for more in (text, profile, text * 3):
        with pytest.raises(InputError):
            decode_image(png(1, 1, bytes(3), more=more), LIMITS)
    notes = PngInfo()
    notes.add_text("comment", "harmless", zip=True)
    assert decoded(encoded(Image.new("RGB", (2, 2)), "PNG", pnginfo=notes)).shape == (2, 2, 3)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"hello, this is text", "19 bytes starting 68 65 6c 6c"),
        (b"%PDF-1.7 ...", "got PDF"),
        (b"\n<svg xmlns='...'/>", "got SVG"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "got HEIC"),
        (b"\0\0\0\x18ftypavif\0\0\0\0", "got AVIF"),
        (b"RIFF\x24\0\0\0WAVEfmt ", "starting 52 49 46 46"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n", "starting 25 21"),  # Pillow would call Ghostscript
        (b"P6 1 1 255\n\0\0\0", "starting 50 36"),
        (b"\0", "1 bytes"),
    ],
    ids=repr,
)
def test_what_is_no_picture_is_named(data: bytes, message: str) -> None:
    with pytest.raises(UnsupportedMedia, match=message) as caught:
        decode_image(data, LIMITS)
    assert caught.value.http_status == 415
    assert all(kind in caught.value.message for kind in FORMATS)


def test_pixels_without_a_range_are_refused() -> None:
    data = encoded(Image.fromarray(np.ones((2, 2), np.float32)), "TIFF")
    with pytest.raises(UnsupportedMedia, match="kind 'F'"):
        decode_image(data, LIMITS)


def test_nothing_is_said_to_be_nothing() -> None:
    with pytest.raises(InputError, match="0 bytes"):
        decode_image(b"", LIMITS)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF"])
def test_random_damage_gives_a_picture_or_a_clean_error(kind: str) -> None:
    chance = np.random.default_rng(7)
    options = {"exif": exif(6)} if kind in ("JPEG", "PNG", "WEBP", "TIFF") else {}
    whole = encoded(Image.fromarray(COLOURS), kind, **options)
    limits = Decode(max_pixels=1_000_000)
    outcomes = set()
    for _ in range(300):
        data = bytearray(whole)
        for _ in range(chance.integers(1, 6)):
            end = len(data) if chance.random() < 0.5 else min(80, len(data))
            data[chance.integers(end)] = chance.integers(256)
        try:
            outcomes.add(decode_image(bytes(data), limits).dtype.name)
        except ModelportError as problem:
            outcomes.add(type(problem).__name__)
    assert "InputError" in outcomes


@pytest.mark.parametrize(
    ("least", "shape"),
    [
        ((101, 50), (101, 151)),  # half the sides, rounded up
        ((102, 8), (201, 301)),  # one row too few
        ((8, 152), (201, 301)),
        ((51, 76), (51, 76)),
        ((26, 38), (26, 38)),
        ((8, 8), (26, 38)),  # an eighth is the least that there is
    ],
)
def test_a_jpeg_is_reduced_as_far_as_its_sides_allow(least: tuple[int, int], shape: tuple[int, int]) -> None:
    smooth = Image.fromarray(SMOOTH).resize((301, 201))
    data = encoded(smooth, "JPEG", quality=95)
    pixels = decode_image(data, LIMITS, least)
    assert pixels.shape[:2] == shape
    by_box = np.asarray(Image.fromarray(decoded(data)).resize(shape[::-1], Image.Resampling.BOX))
    assert np.abs(pixels.astype(int) - by_box).mean() < 2


def test_the_least_sides_are_of_the_upright_picture() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encoded(Image.fromarray(SMOOTH).resize((300, 200)), "JPEG", exif=exif.tobytes())
    assert decode_image(data, LIMITS, (150, 100)).shape == (150, 100, 3)
    assert decode_image(data, LIMITS, (100, 150)).shape == (300, 200, 3)


def test_other_formats_stay_whole_and_limits_are_of_the_whole_picture() -> None:
    whole = Image.fromarray(SMOOTH).resize((300, 200))
    assert decode_image(encoded(whole, "PNG"), LIMITS, (8, 8)).shape == (200, 300, 3)
    with pytest.raises(TooLarge, match="300 x 200"):
        decode_image(encoded(whole, "JPEG"), Decode(max_pixels=59_999), (8, 8))
