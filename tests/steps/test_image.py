"""Steps on single pixels: graph equal to native code, and native code to what the docstring names."""

from __future__ import annotations

import msgspec
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from modelport.errors import UsageError
from modelport.steps.compile import PRE_STEPS, compile_pre
from modelport.steps.image import Cast, CenterCrop, Channels, Grayscale, Layout, Normalize, Pad, Scale
from modelport.steps.step import PreStep, parse_steps, step_data

from .graphs import compiled, differing, native, pictures

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


@pytest.mark.parametrize(
    ("steps", "channels"),
    [
        ([CenterCrop(24)], 3),
        ([CenterCrop((17, 41))], 1),
        ([CenterCrop(1)], 3),
        ([CenterCrop(40), CenterCrop(64)], 3),
        ([CenterCrop((17, 41), rounding="down")], 3),
        ([CenterCrop(64, rounding="down")], 1),
        ([Pad(size=50, fill=(1, 2, 3))], 3),
        ([Pad(size=(31, 60))], 1),
        ([Pad(left=3, bottom=4, fill=9)], 3),
        ([Pad(top=1, right=2, fill=(7, 7, 7))], 3),
        ([Grayscale()], 3),
        ([Grayscale()], 1),
        ([Grayscale(channels=3)], 3),
        ([Channels("bgr")], 3),
        ([Channels("rgb"), Scale(by=0.5)], 3),
        ([Scale(divide=255)], 3),
        ([Scale(divide=127.5, offset=-1)], 3),
        ([Scale(by=1 / 255, offset=0.1)], 1),
        ([Normalize(MEAN, STD)], 3),
        ([Normalize((104, 117, 123))], 3),
        ([Normalize(0.1307, 0.3081)], 1),
        ([Scale(divide=255), Normalize(MEAN, STD), Layout("chw")], 3),
        ([Cast("float16")], 3),
        ([Scale(divide=255), Cast("float16")], 3),
        ([Scale(divide=255), Cast("float64")], 3),
        ([Cast("int64")], 1),
        ([Layout("chw")], 3),
        ([Layout("hw")], 1),
        ([Layout("flat")], 3),
    ],
    ids=repr,
)
def test_the_graph_computes_what_the_native_code_does(steps: list[PreStep], channels: int) -> None:
    assert differing(steps, channels) == []


def torchvision_center_crop(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """`torchvision.transforms.functional.center_crop` on a PIL image, release 0.20, line by line."""
    picture = Image.fromarray(image)
    image_width, image_height = picture.size
    if width > image_width or height > image_height:
        left = (width - image_width) // 2 if width > image_width else 0
        top = (height - image_height) // 2 if height > image_height else 0
        right = (width - image_width + 1) // 2 if width > image_width else 0
        bottom = (height - image_height + 1) // 2 if height > image_height else 0
        padded = Image.new("RGB", (image_width + left + right, image_height + top + bottom))
        padded.paste(picture, (left, top))
        picture = padded
        image_width, image_height = picture.size
    top = round((image_height - height) / 2.0)
    left = round((image_width - width) / 2.0)
    return np.asarray(picture.crop((left, top, left + width, top + height)))


@settings(max_examples=60, deadline=None)
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 40), st.integers(1, 40))
def test_center_crop_is_torchvisions(height: int, width: int, to_height: int, to_width: int) -> None:
    image = np.random.default_rng(height * 41 + width).integers(0, 256, (height, width, 3), dtype=np.uint8)
    expected = torchvision_center_crop(image, to_height, to_width)
    np.testing.assert_array_equal(CenterCrop((to_height, to_width)).reference(image), expected)


def test_center_crop_rounds_halves_to_the_even_number() -> None:
    rows = np.arange(5, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(3, 2)
    assert CenterCrop((4, 4)).reference(rows)[:, 0, 0].tolist() == [0, 1, 2, 3]  # round(0.5) == 0
    assert CenterCrop((2, 4)).reference(rows)[:, 0, 0].tolist() == [2, 3]  # round(1.5) == 2


def test_center_crop_can_take_the_whole_number_below() -> None:
    rows = np.arange(5, dtype=np.uint8)[:, None, None].repeat(4, 1).repeat(3, 2) + np.uint8(1)
    assert CenterCrop((2, 4), rounding="down").reference(rows)[:, 0, 0].tolist() == [2, 3]  # 3 // 2 == 1
    padded = CenterCrop((8, 4), rounding="down").reference(rows)
    assert padded[:, 0, 0].tolist() == [0, 0, 1, 2, 3, 4, 5, 0]  # -3 // 2 == -2


def test_a_crop_of_a_long_thin_picture_makes_nothing_as_large_as_its_square() -> None:
    run, shape = compiled([CenterCrop(4)], 3)
    image = np.full((1, 2_000_000, 3), 9, np.uint8)
    got = run(image)
    assert shape == (4, 4, 3)
    assert got[1].tolist() == [[9, 9, 9]] * 4
    assert got.sum() == 9 * 12


def test_grey_is_pillows() -> None:
    levels = np.arange(256, dtype=np.uint8)
    image = np.stack(np.meshgrid(levels, levels, [0, 31, 128, 255]), -1).reshape(256, -1, 3).astype(np.uint8)
    expected = np.asarray(Image.fromarray(image).convert("L"))
    run, _ = compiled([Grayscale()], 3)
    np.testing.assert_array_equal(run(image)[:, :, 0], expected)


@pytest.mark.frameworks
def test_scale_and_normalize_are_torchs_to_the_last_bit() -> None:
    torch = pytest.importorskip("torch")
    image = pictures(1, 3, seed=5)[0]
    tensor = torch.from_numpy(image.transpose(2, 0, 1).copy()).to(torch.float32).div(255)
    mean, std = torch.tensor(MEAN).view(3, 1, 1), torch.tensor(STD).view(3, 1, 1)
    expected = tensor.sub_(mean).div_(std).numpy()
    got = native([Scale(divide=255), Normalize(MEAN, STD), Layout("chw")], image)
    np.testing.assert_array_equal(got, expected)


def test_static_sizes_are_stated() -> None:
    shape = compile_pre([CenterCrop((20, 30)), Grayscale(), Layout("chw")], "x").signature.outputs[0].shape
    assert shape == (1, 20, 30)
    assert compiled([Pad(left=1)], 3, (5, 5))[1] == (5, 6, 3)
    assert compiled([Pad(size=9)], 3, (5, 12))[1] == (9, 12, 3)
    assert compiled([CenterCrop(8), Layout("flat")], 3)[1] == (192,)


@pytest.mark.parametrize(
    ("steps", "message"),
    [
        ([Layout("auto")], "auto"),
        ([Layout("chw"), CenterCrop(2)], "takes .height, width, channels., got uint8.3, height, width."),
        ([Layout("chw"), Layout("chw")], "takes .height, width, channels."),
        ([Scale(divide=255), CenterCrop(3)], "uint8"),
        ([Grayscale(), Channels("bgr")], "3 channel"),
        ([Normalize((1.0, 2.0))], "2 numbers in `mean`"),
        ([Normalize(0.0, (1.0, 2.0))], "2 numbers in `std`"),
        ([CenterCrop(5), Layout("chw"), Normalize(MEAN)], "3 numbers in `mean`; the last axis has 5"),
        ([Pad(fill=(1, 2), left=1)], "fills 2 channels"),
        ([Scale(divide=2), Cast("uint8")], "cannot make uint8 of float32"),
        ([Scale(divide=2), Cast("int32")], "cannot make int32 of float32"),
        ([Layout("hw")], "1 channel"),
    ],
    ids=repr,
)
def test_steps_that_do_not_fit_are_refused_with_their_place(steps: list[PreStep], message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("`", ".")) as caught:
        compile_pre(steps, "x")
    assert caught.value.at == f"$.pre[{len(steps) - 1}]"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"scale": {}}, "exactly one"),
        ({"scale": {"by": 1, "divide": 1}}, "exactly one"),
        ({"scale": {"divide": 0}}, "not 0"),
        ({"scale": {"by": 1e300}}, "finite"),
        ({"normalize": {"mean": 0, "std": [1, 0, 1]}}, "std not 0"),
        ({"pad": {"size": 4, "left": 1}}, "not both"),
        ({"pad": {"fill": 256}}, "<= 255"),
        ({"center_crop": 0}, "1 to 16384"),
        ({"center_crop": [3]}, "length 2"),
        ({"center_crop": 100_000}, "1 to 16384"),
        ({"layout": "nchw"}, "nchw"),
        ({"grayscale": {"channels": 2}}, "2"),
        ({"channels": {}}, "order"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_refused(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message) as caught:
        parse_steps([data], PRE_STEPS, "$.pre")
    assert caught.value.at == "$.pre[0]"


def test_steps_survive_their_data_form() -> None:
    steps = (CenterCrop((3, 4)), Pad(size=9, fill=(1, 2, 3)), Scale(divide=255), Normalize(MEAN, STD))
    data = msgspec.json.decode(msgspec.json.encode(step_data(steps)))
    assert parse_steps(data, PRE_STEPS, "$.pre") == steps
