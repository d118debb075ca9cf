"""Ink steps: graph equal to native code, MNIST left as it is, drawings and photos made like it."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from modelport.errors import UsageError
from modelport.steps.compile import PRE_STEPS, compile_pre, reference_pre
from modelport.steps.ink import CenterOfMass, CropToInk, Flatten, Polarity, Shrink, Stretch
from modelport.steps.recipe import load_recipe, resolve
from modelport.steps.step import PreStep, parse_steps
from modelport.tensors import Array, Signature, TensorSpec

from .graphs import compiled, differing, session

DIGITS = Signature(
    (TensorSpec("x", "float32", ("batch", 1, 28, 28)),), (TensorSpec("y", "float32", ("batch", 10)),)
)


@pytest.mark.parametrize(
    ("steps", "channels"),
    [
        ([Shrink(20)], 3),
        ([Shrink(64)], 1),
        ([Shrink(1)], 1),
        ([Polarity()], 1),
        ([Polarity("dark")], 1),
        ([Polarity("light"), Stretch()], 1),
        ([Flatten()], 1),
        ([Flatten(3)], 1),
        ([Flatten(11)], 1),
        ([Stretch()], 3),
        ([Stretch(enough=100)], 1),
        ([CropToInk()], 1),
        ([CropToInk(250, 5)], 1),
        ([CropToInk(0, 0)], 1),
        ([CenterOfMass(64)], 1),
        ([CenterOfMass(28)], 1),
        ([CenterOfMass(1)], 1),
        ([Polarity(), Flatten(9), Stretch(), CropToInk(), CenterOfMass(90)], 1),
    ],
    ids=repr,
)
def test_the_graph_computes_what_the_native_code_does(steps: list[PreStep], channels: int) -> None:
    assert differing(steps, channels, count=60) == []


def grey(rows: list[list[int]]) -> Array:
    return np.array(rows, np.uint8)[:, :, None]


def test_shrink_takes_means_of_blocks_and_of_what_is_left_at_the_edge() -> None:
    image = grey([[0, 10, 100], [20, 31, 101], [7, 8, 255]])
    assert Shrink(2).reference(image)[:, :, 0].tolist() == [[15, 101], [8, 255]]  # 15.25, 100.5, 7.5, 255
    assert Shrink(3).reference(image).tolist() == image.tolist()


def test_crop_keeps_soft_edges_and_no_specks() -> None:
    image = np.zeros((30, 30, 1), np.uint8)
    image[10:20, 12:15] = 200
    image[9, 13] = 3  # a soft edge, one row away
    image[2, 2] = 90  # a faint speck elsewhere
    assert CropToInk().reference(image).shape == (11, 3, 1)
    assert CropToInk(threshold=80).reference(image).shape[0] == 18
    assert CropToInk().reference(np.zeros((7, 9, 1), np.uint8)).shape == (7, 9, 1)


def test_center_of_mass_puts_the_mass_where_mnist_has_it() -> None:
    dot = np.full((1, 1, 1), 9, np.uint8)
    assert np.argwhere(CenterOfMass(28).reference(dot)).tolist() == [[14, 14, 0]]
    corner = np.zeros((20, 20, 1), np.uint8)
    corner[0, 0], corner[19, 19] = 255, 1
    placed = CenterOfMass(28).reference(corner)
    assert placed[8, 8, 0] == 255  # gives way so that the last row stays inside
    assert placed.sum() == 256


@pytest.mark.parametrize("paper", [240, 60])
def test_polarity_finds_the_ground_in_a_slope_of_light(paper: int) -> None:
    ink = 255 - paper
    light = np.linspace(-50, 50, 200)[:, None] + np.linspace(-40, 0, 300)
    image = np.clip(paper + light, 0, 255)
    image[60:140, 100:112] = ink
    image = image.astype(np.uint8)[:, :, None]
    got = Polarity().reference(image)
    assert (got[100, 105] > got[100, 50]).all()
    np.testing.assert_array_equal(Polarity().reference(255 - image), got)


def test_flatten_leaves_strokes_and_removes_a_shadow_at_the_edge() -> None:
    image = np.zeros((200, 200, 1), np.uint8)
    image[:, 150:] = 90  # a shadow, once it is inverted
    image[50:120, 40:48] = 200
    got = Flatten().reference(image)
    assert (got[60:110, 42:46] == 200).all()
    assert got[:, 50:].max() == 0


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"flatten": 4}, "must be odd"),
        ({"flatten": 1}, ">= 3"),
        ({"shrink": 0}, ">= 1"),
        ({"crop_to_ink": {"reach": -1}}, ">= 0"),
        ({"polarity": "blue"}, "blue"),
        ({"stretch": {"enough": 0}}, ">= 1"),
    ],
    ids=str,
)
def test_parameters_that_make_no_sense_are_refused(data: object, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        parse_steps([data], PRE_STEPS, "$.pre")


@pytest.mark.parametrize("step", [Polarity(), Flatten(), CropToInk(), CenterOfMass()], ids=repr)
def test_ink_steps_want_grey(step: PreStep) -> None:
    with pytest.raises(UsageError, match="1 channel") as caught:
        compile_pre([step], "x")
    assert caught.value.hint == "put `grayscale` before it"


# -- the whole recipe ------------------------------------------------------------------------------


def digits() -> tuple[PreStep, ...]:
    return resolve(load_recipe("digits"), net=DIGITS).pre


def pixels(prepared: Array) -> Array:
    """What the network was given, as the grey picture that it was: uint8[28, 28]."""
    return np.round((prepared[0] * np.float32(0.3081) + np.float32(0.1307)) * 255).astype(np.uint8)


def drawing(pen: int, size: int, at: tuple[int, int], canvas: int = 280) -> Image.Image:
    """A hand-made 7 in black on white, `size` pixels high."""
    image = Image.new("L", (canvas, canvas), 255)
    x, y = at
    points = [(x, y), (x + size * 6 // 10, y), (x + size // 4, y + size)]
    ImageDraw.Draw(image).line(points, fill=0, width=pen, joint="curve")
    return image.filter(ImageFilter.GaussianBlur(0.7))


def photo(image: Image.Image) -> Image.Image:
    """The same under a lamp at one side, with noise, as a JPEG's pixels."""
    chance = np.random.default_rng(1)
    ink = 1 - np.asarray(image, float) / 255
    light = 210 + np.linspace(-70, 40, image.width) - np.linspace(0, 40, image.height)[:, None]
    taken = light * (1 - 0.7 * ink) + chance.normal(0, 5, ink.shape)
    return Image.fromarray(np.clip(taken, 0, 255).astype(np.uint8))


VIEWS = {
    "middle": drawing(16, 180, (80, 50)),
    "thin": drawing(3, 180, (80, 50)),
    "thick": drawing(30, 160, (80, 60)),
    "small in a corner": drawing(8, 70, (12, 14)),
    "light on dark": Image.eval(drawing(16, 180, (80, 50)), lambda value: 255 - value),
    "faint": Image.eval(drawing(16, 180, (80, 50)), lambda value: 150 + value // 6),
    "photo": photo(drawing(12, 180, (80, 50))),
    "photo, off-centre": photo(drawing(9, 110, (20, 150))),
    "large": drawing(60, 700, (200, 150), canvas=1000),
}


@pytest.mark.parametrize("view", VIEWS)
def test_any_drawing_becomes_a_digit_as_mnist_has_it(view: str) -> None:
    steps = digits()
    image = np.asarray(VIEWS[view].convert("RGB"))
    prepared = reference_pre(steps, image)
    run = session(compile_pre(steps, "x").data)
    np.testing.assert_array_equal(run.run(None, {"image": image})[0], prepared)

    got = pixels(prepared)
    rows, columns = np.nonzero(got > 40)
    assert got.max() > 250
    assert 19 <= rows.max() - rows.min() + 1 <= 20  # MNIST's box
    assert columns.max() - columns.min() + 1 <= 20
    assert (got == 0).mean() > 0.5  # the ground is black, noise and all
    mass = got.astype(float)
    assert abs((mass.sum(1) @ np.arange(28)) / mass.sum() - 14) <= 1
    assert abs((mass.sum(0) @ np.arange(28)) / mass.sum() - 14) <= 1
    # A 7: its bar at the top, its foot left of its corner.
    assert got[rows.min() + 1 : rows.min() + 4].max(axis=0).astype(bool).sum() > 8


def test_an_empty_picture_is_no_error() -> None:
    white = np.full((50, 70, 3), 255, np.uint8)
    run = session(compile_pre(digits(), "x").data)
    assert pixels(run.run(None, {"image": white})[0]).max() == 0
    assert pixels(run.run(None, {"image": white[:1, :1]})[0]).max() == 0


def mnist_test_images(folder: Path) -> Array:
    file = folder / "mnist" / "t10k-images-idx3-ubyte.gz"
    if not file.is_file():
        pytest.skip(f"no MNIST at {file}")
    return np.frombuffer(gzip.decompress(file.read_bytes()), np.uint8, offset=16).reshape(-1, 28, 28)


def test_mnist_comes_through_unchanged(shared_data: Path) -> None:
    images = mnist_test_images(shared_data)[:2000]
    run, _ = compiled([PRE_STEPS["grayscale"](), *digits()[2:9]], 3)
    same = [(run(image[:, :, None].repeat(3, 2))[:, :, 0] == image).all() for image in images]
    inverted = [(run(255 - image[:, :, None].repeat(3, 2))[:, :, 0] == image).all() for image in images[:500]]
    assert np.mean(same) >= 0.985
    assert np.mean(inverted) >= 0.985
