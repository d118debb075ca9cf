"""The fast way to a JPEG's pixels gives Pillow's bytes, or leaves the file to Pillow."""

from __future__ import annotations

from io import BytesIO
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.bundle.manifest import Decode
from modelport.errors import InputError
from modelport.steps import turbo
from modelport.steps.decode import decode_image

pytest.importorskip("simplejpeg", reason="pip install simplejpeg")


def photo(width: int, height: int, seed: int) -> Image.Image:
    random = np.random.default_rng(seed)
    coarse = Image.fromarray(random.integers(0, 256, (9, 9, 3), np.uint8)).resize((width, height), 3)
    noise = random.integers(-20, 20, (height, width, 3))
    return Image.fromarray((np.asarray(coarse) + noise).clip(0, 255).astype(np.uint8))


def saved(image: Image.Image, **options: Any) -> bytes:
    file = BytesIO()
    image.save(file, "JPEG", **options)
    return file.getvalue()


def by_pillow(data: bytes, monkeypatch: pytest.MonkeyPatch) -> Any:
    with monkeypatch.context() as patch:
        patch.setattr(turbo, "_simplejpeg", lambda: None)
        return decode_image(data, Decode())


def test_it_is_in_use_here() -> None:
    data = saved(photo(64, 48, 0))
    assert turbo.decode(data, Image.open(BytesIO(data)), None) is not None


@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(1, 1), (7, 5), (16, 16), (33, 47), (500, 375)])
def test_pillows_bytes(
    size: tuple[int, int], progressive: bool, subsampling: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for quality in (30, 75, 95):
        data = saved(
            photo(*size, seed=quality), quality=quality, subsampling=subsampling, progressive=progressive
        )
        assert np.array_equal(decode_image(data, Decode()), by_pillow(data, monkeypatch))


@pytest.mark.parametrize("turn", range(1, 9))
def test_every_orientation(turn: int, monkeypatch: pytest.MonkeyPatch) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    data = saved(photo(40, 24, turn), exif=exif.tobytes())
    pixels = decode_image(data, Decode())
    assert pixels.shape == ((24, 40, 3) if turn < 5 else (40, 24, 3))
    assert np.array_equal(pixels, by_pillow(data, monkeypatch)) and pixels.flags.c_contiguous


@pytest.mark.parametrize("mode", ["L", "CMYK"])
def test_other_kinds_of_pixels_are_left_to_pillow(mode: str, monkeypatch: pytest.MonkeyPatch) -> None:
    data = saved(photo(40, 24, 3).convert(mode))
    assert turbo.decode(data, Image.open(BytesIO(data)), None) is None
    assert np.array_equal(decode_image(data, Decode()), by_pillow(data, monkeypatch))


def test_damage_is_told_as_ever() -> None:
    data = saved(photo(200, 200, 1))
    with pytest.raises(InputError, match="cut short"):
        decode_image(data[: len(data) // 2], Decode())


UPRIGHT, ON_ITS_SIDE = 1, 6
BESIDE_RGB = [{"mode": "L"}, {"mode": "CMYK"}]


@pytest.mark.parametrize("divisor", [2, 4, 8])
@pytest.mark.parametrize("turn", [UPRIGHT, ON_ITS_SIDE])
@pytest.mark.parametrize(
    "how",
    [{"subsampling": 0}, {"subsampling": 1}, {"subsampling": 2}, {"progressive": True}, *BESIDE_RGB],
    ids=str,
)
def test_a_fraction_has_pillows_bytes_too(
    how: dict[str, Any], turn: int, divisor: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    exif = Image.Exif()
    exif[0x0112] = turn
    for width, height in [(64, 72), (65, 127), (201, 150)]:
        mode = how.get("mode", "RGB")
        options = {name: value for name, value in how.items() if name != "mode"}
        data = saved(photo(width, height, 5).convert(mode), exif=exif.tobytes(), **options)
        whole = (height, width) if turn == UPRIGHT else (width, height)
        least = (-(-whole[0] // divisor), -(-whole[1] // divisor))
        pixels = decode_image(data, Decode(), least)
        assert pixels.shape[:2] == least and pixels.flags.c_contiguous
        with monkeypatch.context() as patch:
            patch.setattr(turbo, "_simplejpeg", lambda: None)
            assert np.array_equal(pixels, decode_image(data, Decode(), least))


def test_damage_is_told_at_a_fraction_too() -> None:
    data = saved(photo(200, 200, 1))
    with pytest.raises(InputError, match="cut short"):
        decode_image(data[: len(data) // 2], Decode(), (8, 8))
