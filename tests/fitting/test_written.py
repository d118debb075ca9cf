"""Preprocessing as people write it, with Pillow, OpenCV, Keras' habits and torch, found through the child."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from modelport.cli.main import root
from modelport.errors import UsageError
from modelport.fitting.finding import Finding, plain_steps
from modelport.fitting.fit import fit_steps
from modelport.steps.image import CenterCrop

from .pictures import write_pictures, write_reference

TORCHVISION = """
def func(path):
    image = Image.open(path).convert("RGB")
    width, height = image.size
    size = (64, int(64 * height / width)) if width < height else (int(64 * width / height), 64)
    image = image.resize(size, Image.BILINEAR)
    left, top = int(round((size[0] - 56) / 2.0)), int(round((size[1] - 56) / 2.0))
    x = np.asarray(image.crop((left, top, left + 56, top + 56)), dtype=np.float32) / np.float32(255)
    mean, std = np.float32([0.485, 0.456, 0.406]), np.float32([0.229, 0.224, 0.225])
    return ((x - mean) / std).transpose(2, 0, 1)[None]
"""
OPENCV = """
import cv2

def func(path):
    image = cv2.resize(cv2.imread(path), (60, 48))
    return (image.astype(np.float32) - 127.5) * 0.0078125
"""
KERAS = """
def func(image):
    image = image.convert("RGB").resize((50, 50), Image.NEAREST)
    return (np.asarray(image) / 127.5 - 1.0)[None]
"""
READ_IN_GREY = """
import cv2

def func(path):
    image = cv2.resize(cv2.imread(path, 0), (40, 40))
    return image.astype(np.float32)[..., None] / 127.5 - 1
"""
AREA = """
import cv2

def func(path):
    image = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2RGB)
    return cv2.resize(image, (40, 40), interpolation=cv2.INTER_AREA) / np.float32(255)
"""
TENSORS = """
def func(image):
    # Bilinear, half-pixel centres, no antialiasing, in floating point, as tf.image.resize does.
    x = np.asarray(image, dtype=np.float64) / 255
    for axis in (0, 1):
        places = (np.arange(37) + 0.5) * x.shape[axis] / 37 - 0.5
        first = np.floor(places).astype(int)
        share = (places - first).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        last = x.shape[axis] - 1
        one, two = np.take(x, first.clip(0, last), axis), np.take(x, (first + 1).clip(0, last), axis)
        x = one * (1 - share) + two * share
    return x.astype(np.float32)
"""
OPENCV_GRAY = """
import cv2

def func(path):
    gray = cv2.cvtColor(cv2.imread(path), cv2.COLOR_BGR2GRAY)
    return cv2.resize(gray, (32, 32)).astype(np.float32) / np.float32(255)
"""
STANDARDISED = """
def func(image):
    x = np.asarray(image.convert("RGB").resize((40, 40), Image.BILINEAR), dtype=np.float64)
    return ((x - x.mean()) / x.std()).astype(np.float32)
"""
FLOOR_CROP = """
def func(image):
    image = image.convert("RGB").resize((55, 55), Image.BILINEAR)
    return np.asarray(image, dtype=np.float32)[7 // 2 : 7 // 2 + 48, 7 // 2 : 7 // 2 + 48]
"""
GAMMA = """
def func(image):
    x = np.asarray(image.convert("RGB").resize((40, 40), Image.BILINEAR)) / 255.0
    return (x**2.2).astype(np.float32)
"""
BORDER_LAST = """
def func(image):
    share = 48 / max(image.size)
    image = image.resize((round(image.width * share), round(image.height * share)), Image.BILINEAR)
    x = (np.asarray(image, dtype=np.float32) / np.float32(255) - np.float32(0.45)) / np.float32(0.22)
    out = np.full((48, 48, 3), 0.123, np.float32)
    top, left = (48 - x.shape[0]) // 2, (48 - x.shape[1]) // 2
    out[top : top + x.shape[0], left : left + x.shape[1]] = x
    return out
"""
MIRRORED = """
def func(image):
    return np.asarray(image.resize((48, 48), Image.BILINEAR))[:, ::-1]
"""
SLOW_JPEG = """
def func(path):
    image = Image.open(path)
    image.draft("RGB", (10_000, 10_000))
    x = np.asarray(image.convert("RGB").resize((40, 40), Image.BILINEAR), dtype=np.float32)
    return x + np.float32(2.0 if path.endswith(".jpg") and "wide" in path else 0.0)
"""


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"), suffix="jpg")


def fitted(body: str, pictures: Path, folder: Path, **how: object) -> Finding:
    return fit_steps(write_reference(folder, body), pictures, **how)  # type: ignore[arg-type]


def test_torchvision_by_hand(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(TORCHVISION, pictures, tmp_path)
    assert finding.ok
    assert finding.takes == "path"
    assert finding.values == "ImageNet's mean and deviation"
    assert plain_steps(finding.steps) == [
        {"resize": {"shorter": 64, "kernel": "pillow-bilinear"}},
        {"center_crop": {"size": 56}},
        {"scale": {"divide": 255.0}},
        {"normalize": {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}},
        {"layout": {"order": "chw"}},
    ]
    assert finding.proof is not None
    assert (finding.proof.equal, finding.proof.largest) == (4, 0.0)
    assert any("EXIF" in note for note in finding.notes)


def test_opencv(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    finding = fitted(OPENCV, pictures, tmp_path)
    assert finding.ok, finding.why
    assert (finding.kernel, finding.colours, finding.layout) == ("opencv-linear", "BGR", "hwc")
    assert finding.geometry == "resize 48 x 60"
    assert not any("EXIF" in note for note in finding.notes)


def test_keras_in_float64(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(KERAS, pictures, tmp_path)
    assert finding.ok, finding.why
    assert (finding.takes, finding.kernel, finding.values) == ("pil", "nearest", "-1 to 1")
    assert any("float64" in note for note in finding.notes)


@pytest.mark.parametrize(
    ("body", "said"),
    [
        (AREA, "INTER_AREA"),
        (TENSORS, "tf.image.resize"),
        (OPENCV_GRAY, "OpenCV's grey"),
        (STANDARDISED, "own mean"),
        (GAMMA, "gamma"),
    ],
    ids=["area", "tensors", "opencv gray", "standardised", "gamma"],
)
def test_what_has_no_steps_is_named(body: str, said: str, pictures: Path, tmp_path: Path) -> None:
    if "cv2" in body:
        pytest.importorskip("cv2")
    finding = fitted(body, pictures, tmp_path)
    assert not finding.ok
    assert said in " ".join(finding.why)
    assert finding.steps


def test_files_that_are_decoded_in_grey_are_named_and_the_nearest_has_their_values(tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    finding = fitted(READ_IN_GREY, write_pictures(tmp_path / "photos", suffix="jpg"), tmp_path)
    assert not finding.ok and "decoded in grey" in finding.why[0]
    assert "scale" in str(finding.steps) or "normalize" in str(finding.steps)


def test_a_crop_that_begins_at_the_number_below_is_a_step(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(FLOOR_CROP, pictures, tmp_path)
    assert finding.ok
    assert "from (size - crop) // 2" in finding.geometry
    assert any(isinstance(step, CenterCrop) and step.rounding == "down" for step in finding.steps)


def test_a_border_put_around_last_is_named(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(BORDER_LAST, pictures, tmp_path)
    assert not finding.ok
    assert "put around last" in " ".join(finding.why)


def test_what_is_no_part_of_the_picture_has_no_steps(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(MIRRORED, pictures, tmp_path)
    assert not finding.ok
    assert finding.steps == ()
    assert "mirrored" in " ".join(finding.why)


def test_samples_that_differ_from_what_the_steps_give_are_named(pictures: Path, tmp_path: Path) -> None:
    finding = fitted(SLOW_JPEG, pictures, tmp_path)
    assert finding.proof is not None
    assert finding.proof.equal == 3
    assert finding.proof.worst == "wide.jpg"
    assert abs(finding.proof.largest_levels - 2) < 1e-3


def test_what_cannot_be_told_apart_is_listed(tmp_path: Path) -> None:
    square = write_pictures(tmp_path / "square", {"one": (64, 64), "two": (64, 64)})
    body = "def func(image):\n    return np.asarray(image, dtype=np.float32)\n"
    finding = fitted(body, square, tmp_path, probes=False, takes="pil")
    assert finding.ok
    assert finding.geometry == "the picture as it is"
    assert "resize 64 x 64" in " ".join(finding.also)
    assert any("one size" in note for note in finding.notes)


def test_the_probes_tell_it_apart(tmp_path: Path) -> None:
    square = write_pictures(tmp_path / "square", {"one": (64, 64), "two": (64, 64)})
    body = (
        "def func(image):\n    return np.asarray(image.resize((64, 64), Image.BICUBIC), dtype=np.float32)\n"
    )
    finding = fitted(body, square, tmp_path, takes="pil")
    assert (finding.geometry, finding.kernel, finding.also) == ("resize 64 x 64", "pillow-bicubic", ())


LETTERBOX = """
import cv2

def func(image):
    height, width = image.shape[:2]
    ratio = min(96 / height, 96 / width)
    inner = round(width * ratio), round(height * ratio)
    image = cv2.resize(image, inner, interpolation=cv2.INTER_LINEAR)
    down, across = (96 - inner[1]) / 2, (96 - inner[0]) / 2
    rows, columns = (round(down - 0.1), round(down + 0.1)), (round(across - 0.1), round(across + 0.1))
    image = cv2.copyMakeBorder(image, *rows, *columns, cv2.BORDER_CONSTANT, value=(114, 114, 114))
    return np.ascontiguousarray(image.transpose(2, 0, 1), dtype=np.float32) / 255
"""


@pytest.mark.parametrize("probes", [True, False])
def test_a_letterbox_of_photos_larger_than_the_flat_probes(probes: bool, tmp_path: Path) -> None:
    # Pictures of one colour rank no geometry: were they taken for the smallest photos, a letterbox would
    # be lost among the crops before it is tried.
    sizes = {"across": (240, 320), "wide": (230, 410), "upright": (300, 220)}
    photos = write_pictures(tmp_path / "photos", sizes)
    pytest.importorskip("cv2")
    finding = fit_steps(write_reference(tmp_path, LETTERBOX), photos, takes="rgb", probes=probes)
    assert finding.ok, finding.why
    assert finding.proof is not None
    assert finding.proof.equal == finding.proof.samples == 3
    assert plain_steps(finding.steps)[0] == {
        "letterbox": {"size": 96, "fill": 114, "kernel": "opencv-linear"}
    }


def test_a_recipe_that_is_only_the_nearest_is_not_offered_for_packing(pictures: Path, tmp_path: Path) -> None:
    pytest.importorskip("cv2")
    words = ["fit-steps", "--reference", write_reference(tmp_path, AREA), "--samples", str(pictures)]
    output = tmp_path / "mine.toml"
    told = CliRunner().invoke(root, [*words, "-o", str(output)], standalone_mode=False)
    assert told.return_value == 1
    assert "only the nearest recipe, not equal to the function" in told.stderr
    assert "modelport pack" not in told.stderr
    assert "# Not what the reference is: OpenCV's INTER_AREA" in output.read_text()


def test_an_unknown_recipe_for_the_post_processing_is_refused_first(pictures: Path, tmp_path: Path) -> None:
    words = ["fit-steps", "--reference", write_reference(tmp_path, AREA), "--samples", str(pictures)]
    told = CliRunner().invoke(root, [*words, "--post-of", "yolov55"], standalone_mode=False)
    assert isinstance(told.exception, UsageError)
    assert "did you mean 'yolov5'?" in str(told.exception)
    assert "calling" not in told.stderr


def test_photos_on_their_side_are_left_out_and_told(pictures: Path, tmp_path: Path) -> None:
    folder = tmp_path / "turned"
    folder.mkdir()
    for path in pictures.iterdir():
        exif = Image.Exif()
        exif[0x0112] = 6 if path.stem == "tall" else 1
        Image.open(path).save(folder / path.name, exif=exif, quality=95)
    body = "def func(path):\n    return np.asarray(Image.open(path).resize((40, 40), Image.BILINEAR))\n"
    finding = fitted(body, folder, tmp_path)
    assert finding.ok
    assert finding.proof is not None
    assert finding.proof.samples == 3
    assert any("(1 of the samples)" in note for note in finding.notes)


@pytest.mark.frameworks
def test_a_torch_tensor_on_a_graph_is_read(pictures: Path, tmp_path: Path) -> None:
    body = (
        "import torch\n\ndef func(image):\n"
        "    x = torch.from_numpy(np.array(image.resize((40, 40), Image.BILINEAR)))\n"
        "    return {'pixel_values': x.permute(2, 0, 1).float().div(255).requires_grad_()[None]}\n"
    )
    finding = fitted(body, pictures, tmp_path, takes="pil")
    assert finding.ok, finding.why
    assert finding.output == "float32[3, 40, 40]"


def test_the_recipe_is_what_pack_takes(pictures: Path, tmp_path: Path) -> None:
    reference = write_reference(tmp_path, TORCHVISION)
    command = [sys.executable, "-m", "modelport", "fit-steps", "--reference", reference]
    command += ["--samples", str(pictures), "-o", str(tmp_path / "mine.toml"), "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert told["ok"]
    assert told["schema"] == "modelport.fit-steps/1"
    from modelport.steps.recipe import load_recipe, resolve
    from modelport.tensors import Signature, TensorSpec

    recipe = load_recipe(tmp_path / "mine.toml")
    net = Signature((TensorSpec("x", "float32", ("n", 3, 56, 56)),), (TensorSpec("y", "float32", ("n", 10)),))
    pre = resolve(recipe, net=net).pre
    assert [step.name for step in pre] == ["resize", "center_crop", "scale", "normalize", "layout"]
    assert np.float32(0.485) == np.float32(told["steps"][3]["normalize"]["mean"][0])
