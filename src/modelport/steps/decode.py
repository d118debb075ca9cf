"""Encoded picture to uint8 [height, width, 3], on the host. The one stage that is no graph.

The format is told from the first bytes, and only the codecs named here run: a file's name or declared
type chooses nothing. Size and pixels are judged by the header, before memory for pixels is taken. What
is decided here, so that every host can do the same: the EXIF orientation is applied; colour profiles
are not; transparency is composited on `background`; of 16 bits the upper 8 are kept; of an animation the
first frame is shown.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from io import BytesIO

import numpy as np
from PIL import Image, ImageFile
from PIL.BmpImagePlugin import BmpImageFile
from PIL.GifImagePlugin import GifImageFile
from PIL.JpegImagePlugin import JpegImageFile
from PIL.PngImagePlugin import PngImageFile
from PIL.TiffImagePlugin import TiffImageFile
from PIL.WebPImagePlugin import WebPImageFile

from ..bundle.manifest import Decode
from ..errors import InputError, TooLarge, UnsupportedMedia
from ..tensors import Array
from . import turbo

FORMATS = ("JPEG", "PNG", "WebP", "GIF", "BMP", "TIFF")
"""What is decoded, by name."""

# The plugins are called directly: `Image.open` would judge the size by a limit that is global to the
# process, and answer with a warning.
_OPENERS: tuple[tuple[str, tuple[bytes, ...], Callable[[BytesIO], ImageFile.ImageFile]], ...] = (
    ("JPEG", (b"\xff\xd8\xff",), JpegImageFile),
    ("PNG", (b"\x89PNG\r\n\x1a\n",), PngImageFile),
    ("WebP", (b"RIFF",), WebPImageFile),
    ("GIF", (b"GIF87a", b"GIF89a"), GifImageFile),
    ("TIFF", (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+"), TiffImageFile),
    ("BMP", (b"BM",), BmpImageFile),
)

# What Pillow's codecs raise for damaged files, apart from running out of memory.
_DAMAGED = (
    OSError,
    SyntaxError,
    ValueError,
    EOFError,
    TypeError,
    LookupError,
    ArithmeticError,
    AttributeError,
    RuntimeError,
    struct.error,
    zlib.error,
    Warning,
)

DIVISORS = (8, 4, 2)
"""Of a JPEG's sides: the other fractions that libjpeg has are slower than the whole, for want of SIMD."""
_BLOCK_PIXELS = 1 << 18
_ORIENTATION = 0x0112  # TIFF 6.0, tag 274; EXIF 2.3, 4.6.4
_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = (_TURNS[5], _TURNS[6], _TURNS[7], _TURNS[8])


def decode_image(data: bytes, decode: Decode, reduced: tuple[int, int] | None = None) -> Array:
    """The picture in `data`, in RGB: uint8 [height, width, 3], contiguous.

    Args:
        data: the whole file, in one of `FORMATS`.
        decode: the limits, which are held against the whole picture, and the background behind transparent
            pixels.
        reduced: the least height and width of a JPEG that may be decoded at a fraction of its sides, see
            `reduction`; None for every picture whole.

    Raises:
        InputError: no bytes, or the file is damaged or cut short.
        TooLarge: more bytes or pixels than `decode` allows; no memory was taken for pixels.
        UnsupportedMedia: no picture, or one of a format or a kind of pixel that is not decoded.
    """
    if not data:
        raise InputError("expected a picture, got 0 bytes")
    if len(data) > decode.max_bytes:
        raise TooLarge(f"the picture has {len(data)} bytes; at most {decode.max_bytes} are read")
    kind, opener = _recognise(data)
    try:
        if kind == "WebP":
            # libwebp takes memory for the whole canvas when it opens a file.
            _check_size(_webp_size(data), decode)
        image = opener(BytesIO(data))
        _check_size(image.size, decode)
        pixels = _jpeg(data, image, reduced) if kind == "JPEG" else None
        if pixels is None:
            image.load()
            pixels = _pixels(_turned(image, kind), kind, decode.background)
    except MemoryError as problem:
        raise TooLarge("there is not enough memory for the picture") from problem
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as problem:
        # Some plugins judge frames and tiles themselves, by Pillow's own limit.
        raise TooLarge(f"the {kind} picture holds too many pixels: {problem}") from problem
    except _DAMAGED as problem:
        raise InputError(
            f"the {kind} picture of {len(data)} bytes is damaged or cut short: {problem}",
            hint="does it open in a picture viewer? Then save it again as PNG",
        ) from problem
    return np.ascontiguousarray(pixels)


def reduction(height: int, width: int, least: tuple[int, int]) -> int:
    """By how much a JPEG's sides are divided, rounded up: 8, 4 or 2, the most that leaves `least`, or 1.

    libjpeg's inverse DCT makes 4, 2 or 1 pixels of 8 itself (`scale_num`/`scale_denom` in libjpeg.txt): what
    is left out is never computed.

    Args:
        height, width: of the whole picture, upright.
        least: height and width that must be left.
    """
    for divisor in DIVISORS:
        if -(-height // divisor) >= least[0] and -(-width // divisor) >= least[1]:
            return divisor
    return 1


def reduction_of(data: bytes, decode: Decode, least: tuple[int, int]) -> int:
    """`reduction` of an encoded picture, by its header; 1 for other formats than JPEG.

    Raises:
        InputError, TooLarge, UnsupportedMedia: as `picture_size`.
    """
    if _recognise(data)[0] != "JPEG":
        return 1
    width, height = picture_size(data, decode)
    return reduction(height, width, least)


def _jpeg(data: bytes, image: ImageFile.ImageFile, reduced: tuple[int, int] | None) -> Array | None:
    """A JPEG's pixels, upright; None where Pillow decodes it, which then knows at which size."""
    turn = _turn(image, "JPEG")
    divisor = 1
    if reduced is not None:
        width, height = image.size
        divisor = reduction(height, width, reduced[::-1] if turn in _SIDEWAYS else reduced)
    pixels = turbo.decode(data, image, turn, divisor)
    if pixels is None and divisor > 1:
        image.draft(image.mode, (image.width // divisor, image.height // divisor))
    return pixels


def picture_size(data: bytes, decode: Decode) -> tuple[int, int]:
    """Width and height of the picture that `decode_image` would give, from its header alone.

    Raises:
        InputError, TooLarge, UnsupportedMedia: as `decode_image`, where the header says so.
    """
    kind, opener = _recognise(data)
    try:
        image = opener(BytesIO(data))
        if kind == "TIFF":
            image.load()  # only then has Pillow turned it
        turn = _turn(image, kind)
    except _DAMAGED as problem:
        raise InputError(f"the {kind} picture of {len(data)} bytes is damaged: {problem}") from problem
    _check_size(image.size, decode)
    width, height = image.size
    return (height, width) if turn in _SIDEWAYS else (width, height)


def _recognise(data: bytes) -> tuple[str, Callable[[BytesIO], ImageFile.ImageFile]]:
    """The format's name and decoder, from the first bytes."""
    for kind, starts, opener in _OPENERS:
        if data.startswith(starts) and (kind != "WebP" or data[8:12] == b"WEBP"):
            return kind, opener
    looks = {b"ftyphe": "HEIC", b"ftypmi": "HEIC", b"ftypav": "AVIF"}.get(data[4:10])
    text = data[:256].lstrip(b"\xef\xbb\xbf \t\r\n")
    if text.startswith(b"%PDF"):
        looks = "PDF"
    elif text.startswith((b"<svg", b"<?xml")):
        looks = "SVG"
    got = f"got {looks}" if looks else f"got {len(data)} bytes starting {data[:8].hex(' ')}"
    raise UnsupportedMedia(
        f"expected a picture ({', '.join(FORMATS)}), {got}", hint="convert it to PNG or JPEG"
    )


def _check_size(size: tuple[int, int], decode: Decode) -> None:
    width, height = size
    if width < 1 or height < 1:
        raise InputError(f"the picture is {width} x {height} pixels: there is nothing in it")
    if width * height > decode.max_pixels:
        raise TooLarge(
            f"the picture has {width} x {height} = {width * height} pixels; "
            f"at most {decode.max_pixels} are decoded",
            hint="send a smaller one",
        )


def _webp_size(data: bytes) -> tuple[int, int]:
    """Width and height by the first chunk of a WebP file (RFC 9649, 2.5 to 2.7).

    Raises:
        ValueError: another chunk comes first, or the file ends before.
    """
    chunk = data[12:16]
    if len(data) >= 30 and chunk == b"VP8X":
        return int.from_bytes(data[24:27], "little") + 1, int.from_bytes(data[27:30], "little") + 1
    if len(data) >= 25 and chunk == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return (bits & 0x3FFF) + 1, (bits >> 14 & 0x3FFF) + 1
    if len(data) >= 30 and chunk == b"VP8 ":
        width, height = struct.unpack("<HH", data[26:30])
        return width & 0x3FFF, height & 0x3FFF
    raise ValueError("no VP8, VP8L or VP8X chunk")


def _turned(image: Image.Image, kind: str) -> Image.Image:
    """The picture the right way up."""
    turn = _turn(image, kind)
    return image if turn is None else image.transpose(turn)


def _turn(image: Image.Image, kind: str) -> Image.Transpose | None:
    """How the picture has to be turned to stand upright. TIFF files Pillow turns as it loads them."""
    raw = image.info.get("exif")
    if not raw or kind == "TIFF":
        return None
    exif = Image.Exif()
    try:
        exif.load(raw)
        return _TURNS.get(exif.get(_ORIENTATION, 1))
    except _DAMAGED:
        return None  # damaged notes about a picture leave the picture


def _pixels(image: Image.Image, kind: str, background: tuple[int, int, int]) -> Array:
    """Any mode of Pillow's to uint8 [height, width, 3].

    Raises:
        UnsupportedMedia: pixels without a known range or colour space.
    """
    mode = image.mode
    deep = mode in ("I", "F") or mode.startswith("I;16")
    if not deep and (mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info):
        return _composited(np.asarray(image.convert("RGBA")), background)
    if mode == "RGB":
        return np.asarray(image)
    if mode in ("L", "1", "P", "CMYK", "YCbCr", "RGBX", "HSV"):
        return np.asarray(image.convert("RGB"))
    if mode.startswith("I;16") or (mode == "I" and kind == "PNG"):
        upper = (np.asarray(image) >> 8).astype(np.uint8)
        return np.repeat(upper[:, :, None], 3, axis=2)
    raise UnsupportedMedia(
        f"the {kind} picture has pixels of kind {mode!r}, whose range is not known",
        hint="convert it to 8 or 16 bits for each channel",
    )


def _composited(rgba: Array, background: tuple[int, int, int]) -> Array:
    """uint8 [h, w, 4] over a colour: (c a + background (255 - a) + 127) // 255, in whole numbers."""
    colour = np.array(background, np.uint32)
    out = np.empty((*rgba.shape[:2], 3), np.uint8)
    rows = max(1, _BLOCK_PIXELS // rgba.shape[1])  # a few rows at a time: sums take 24 bytes a pixel
    for top in range(0, len(rgba), rows):
        part = rgba[top : top + rows]
        alpha = part[:, :, 3:].astype(np.uint32)
        out[top : top + rows] = (part[:, :, :3] * alpha + colour * (255 - alpha) + 127) // 255
    return out
