"""What the reference is asked about: the user's pictures, and some that tell kernels apart."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import msgspec
import numpy as np
from PIL import Image

from ..bundle.manifest import Decode
from ..errors import InputError, ModelportError, NotFound
from ..evaluate.data.item import pictures_below
from ..sampling import evenly
from ..steps.decode import decode_image
from ..tensors import Array

_ORIENTATION = 0x0112
_PROBE_SIZES = (
    *((240, 331), (353, 250), (1203, 211), (90, 61), (160, 160)),
    *((61, 88), (83, 135), (83, 123), (67, 121)),
)
"""Heights and widths: across, upright, so tall that Pillow 13 changes its order, small, square; small ones
of such sides that what is left beside a centre crop falls on halves, which tells the ways of rounding apart
after 19 of 20 usual resizes."""
_FLATS = ((10, 200, 90), (240, 30, 160), (128, 100, 20), (0, 255, 255), (255, 0, 60), (64, 150, 220))
_COPIES = 3
_LARGEST_COPY = 1 << 21


class Sample(msgspec.Struct, frozen=True, eq=False):
    """One picture, as a file and as what the host decodes of it."""

    name: str
    path: Path
    pixels: Array
    """uint8[height, width, 3], upright"""
    sideways: Array | None = None
    """The same without regard to the EXIF orientation, where there is one."""
    probe: str = ""
    """What it was made for, where it is none of the user's: "noise", "flat", "copy" or "exif"."""


def find_samples(folder: Path, limit: int) -> list[Sample]:
    """At most `limit` pictures below a folder (or one file), evenly picked.

    Raises:
        NotFound: no such folder. InputError: no pictures in it, or one that cannot be decoded.
    """
    if not folder.exists():
        raise NotFound(f"no samples at {str(folder)!r}")
    files = [folder] if folder.is_file() else pictures_below(folder)
    if not files:
        raise InputError(
            "no pictures in the folder of samples", at=str(folder), hint="some JPEG or PNG files"
        )
    root = folder if folder.is_dir() else folder.parent
    return [_read(path, str(path.relative_to(root))) for path in evenly(files, limit)]


def _read(path: Path, name: str) -> Sample:
    data = path.read_bytes()
    try:
        pixels = decode_image(data, Decode())
    except ModelportError as problem:
        raise InputError(problem.message, at=str(path), hint=problem.hint) from problem
    return Sample(name, path.resolve(), pixels, _sideways(data))


def _sideways(data: bytes) -> Array | None:
    with Image.open(BytesIO(data)) as image:
        if image.getexif().get(_ORIENTATION, 1) == 1 or image.format == "TIFF":
            return None
        return np.asarray(image.convert("RGB"))


def make_probes(samples: list[Sample], folder: Path) -> list[Sample]:
    """Pictures written to `folder`: noise of several sizes, copies of samples as PNG, one with EXIF.

    Noise tells kernels apart that agree on smooth photos. What becomes of one flat colour depends on no
    kernel. Copies as PNG leave the decoder of JPEG out of the comparison.
    """
    rng = np.random.default_rng(20240229)
    found = [
        _write(f"noise {width}x{height}", _noise(rng, height, width), folder, "noise")
        for height, width in _PROBE_SIZES
    ]
    for colour in _FLATS:
        flat = np.broadcast_to(np.array(colour, np.uint8), (200, 200, 3))
        found.append(_write(f"flat {colour}", np.ascontiguousarray(flat), folder, "flat"))
    small = sorted(samples, key=lambda sample: sample.pixels.size)
    for sample in [each for each in small if each.pixels[:, :, 0].size <= _LARGEST_COPY][:_COPIES]:
        found.append(_write(f"{sample.name} as PNG", sample.pixels, folder, "copy"))
    turned = folder / "turned.jpg"
    exif = Image.Exif()
    exif[_ORIENTATION] = 6
    picture = _noise(rng, 240, 331, cell=8)
    Image.fromarray(picture).save(turned, quality=98, subsampling=0, exif=exif)
    pixels = decode_image(turned.read_bytes(), Decode())
    found.append(Sample("turned by EXIF", turned, pixels, np.asarray(Image.open(turned)), "exif"))
    return found


def _noise(rng: np.random.Generator, height: int, width: int, cell: int = 24) -> Array:
    """Noise of single pixels on noise of patches."""
    coarse = rng.integers(0, 256, (-(-height // cell), -(-width // cell), 3), np.uint8)
    large = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC))
    fine = rng.integers(0, 256, (height, width, 3), np.uint8)
    mixed: Array = (large.astype(np.uint16) * 5 + fine.astype(np.uint16) * 3 + 4) // 8
    mixed = mixed.astype(np.uint8)
    side = min(height, width) // 4
    top, left = (height - side) // 2, (width - side) // 2
    # Black to white in the middle, where the mixture has hardly any.
    ramp = np.linspace(0, 255, side).astype(np.uint8)
    mixed[top : top + side, left : left + side] = ramp[None, :, None]
    return mixed


def _write(name: str, pixels: Array, folder: Path, probe: str) -> Sample:
    path = folder / f"{len(list(folder.iterdir()))}.png"
    Image.fromarray(pixels).save(path, compress_level=1)
    return Sample(name, path, pixels, None, probe)
