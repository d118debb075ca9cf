"""One item in every form a caller has it in means the same picture to the server."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.bundle.manifest import Decode
from modelport.client.items import npy_of, one_item, read_item
from modelport.errors import InputError, NotFound
from modelport.runtimes.npz import read_npy
from modelport.steps.decode import decode_image
from modelport.tensors import Array

RNG = np.random.default_rng(3)
ORIENTATION = 0x0112


def seen(item: Any) -> Array:
    """The pixels that the server would work on."""
    got = read_item(item)
    if isinstance(got, bytes):
        return decode_image(got, Decode(kind="image"))
    assert isinstance(got, dict) and set(got) == {"image"}
    return got["image"]


def files() -> dict[str, bytes]:
    """Pictures in every kind of pixel that the server decodes."""
    pixels = RNG.integers(0, 256, (9, 7, 4), np.uint8)
    kinds = {
        "RGB": Image.fromarray(pixels[..., :3].copy()),
        "RGBA": Image.fromarray(pixels),
        "L": Image.fromarray(pixels[..., 0].copy()),
        "LA": Image.fromarray(pixels).convert("LA"),
        "P": Image.fromarray(pixels[..., :3].copy()).quantize(9),
        "1": Image.fromarray(pixels[..., 0].copy()).convert("1"),
        "I;16": Image.fromarray(pixels[..., 0].astype(np.uint16) * 257),
    }
    found: dict[str, bytes] = {}
    for name, image in kinds.items():
        file = io.BytesIO()
        image.save(file, "PNG")
        found[name] = file.getvalue()
    for turn in range(1, 9):
        file, exif = io.BytesIO(), Image.Exif()
        exif[ORIENTATION] = turn
        kinds["RGB"].save(file, "JPEG", exif=exif)
        found[f"turned {turn}"] = file.getvalue()
    file = io.BytesIO()
    kinds["RGB"].convert("CMYK").save(file, "TIFF")
    found["CMYK"] = file.getvalue()
    return found


FILES = files()


@pytest.mark.parametrize("name", FILES)
def test_a_file_its_bytes_and_its_pillow_image_are_the_same_picture(name: str, tmp_path: Path) -> None:
    data = FILES[name]
    expected = decode_image(data, Decode(kind="image"))
    path = tmp_path / "picture"
    path.write_bytes(data)
    with path.open("rb") as file:
        for item in (path, str(path), data, bytearray(data), memoryview(data), file, io.BytesIO(data)):
            assert np.array_equal(seen(item), expected)
    with Image.open(path) as image:
        assert np.array_equal(seen(image), expected)


def test_pixels_go_as_they_are() -> None:
    pixels = RNG.integers(0, 256, (5, 6, 3), np.uint8)
    got = read_item(pixels)
    assert isinstance(got, dict) and got["image"] is pixels


@pytest.mark.parametrize("mode", ["HSV", "LAB", "F"])
def test_a_pillow_image_that_no_file_holds_is_refused(mode: str) -> None:
    with pytest.raises(InputError, match=r"cannot be sent.*convert"):
        read_item(Image.new(mode, (3, 3)))


def test_tensors_go_in_numpys_formats_that_the_server_reads() -> None:
    array = RNG.random((2, 3)).astype(np.float32)
    got = read_item(array)
    assert isinstance(got, np.ndarray) and np.array_equal(read_npy(npy_of(got)), array)
    several = read_item({"x": array, "t": ["a", "é"], "n": [1, 2]})
    assert isinstance(several, dict)
    inputs, batched = one_item(several)
    assert batched
    assert [(n, v.shape) for n, v in inputs.items()] == [("x", (1, 2, 3)), ("t", (1, 2)), ("n", (1, 2))]
    pixels = {"image": np.zeros((2, 2, 3), np.uint8)}
    assert one_item(pixels) == (pixels, False)


class Tensorlike:
    def __array__(self, dtype: Any = None, copy: Any = None) -> Array:
        return np.zeros((2, 2, 3), np.uint8)


def test_what_says_it_is_an_array_is_one() -> None:
    got = read_item(Tensorlike())  # type: ignore[arg-type]
    assert isinstance(got, dict) and got["image"].shape == (2, 2, 3)


def test_what_cannot_be_sent_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        read_item("/nowhere.png")
    with pytest.raises(NotFound, match="download it"):
        read_item("https://example.org/cat.png")
    with pytest.raises(InputError, match="cannot read"):
        read_item(tmp_path)
    with pytest.raises(InputError, match="cannot read"):
        read_item("a\0b")
    with pytest.raises(InputError, match="open for bytes"):
        read_item(io.StringIO("x"))  # type: ignore[arg-type]
    with pytest.raises(InputError, match="got int"):
        read_item(5)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="numbers or text"):
        read_item({"x": np.array([object()])})
    with pytest.raises(InputError, match="numbers or text"):
        read_item(np.zeros(3, np.complex64))
