"""Recipes are found again from nothing but a function that computes them, through the real child process."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from modelport.bundle.manifest import Decode
from modelport.fitting.finding import Finding, plain_steps
from modelport.fitting.fit import fit_steps
from modelport.fitting.match import Evidence
from modelport.fitting.search import search
from modelport.steps.compile import PRE_STEPS, reference_pre
from modelport.steps.decode import decode_image
from modelport.steps.step import parse_steps

from .pictures import write_pictures, write_reference

STEPS = """
from modelport.steps.compile import PRE_STEPS, reference_pre
from modelport.steps.step import parse_steps

def func(pixels: np.ndarray):
    return reference_pre(parse_steps({steps!r}, PRE_STEPS, "$"), pixels)
"""

RECIPES: dict[str, list[object]] = {
    "imagenet": [
        {"resize": {"shorter": 64, "kernel": "pillow-bilinear"}},
        {"center_crop": {"size": 56}},
        {"scale": {"divide": 255.0}},
        {"normalize": {"mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]}},
        {"layout": {"order": "chw"}},
    ],
    "caffe": [
        {"resize": {"size": 62, "kernel": "opencv-linear"}},
        {"center_crop": {"size": 48}},
        {"channels": {"order": "bgr"}},
        {"normalize": {"mean": [104.0, 117.0, 123.0]}},
        {"layout": {"order": "chw"}},
    ],
    "paddle": [
        {"resize": {"shorter": 63, "kernel": "opencv-linear", "rounding": "nearest"}},
        {"center_crop": {"size": 56, "rounding": "down"}},
        {"scale": {"divide": 255.0}},
        {"layout": {"order": "chw"}},
    ],
    "letterbox": [
        {"letterbox": {"size": [64, 80], "fill": 114, "kernel": "opencv-linear"}},
        {"scale": {"divide": 255.0}},
        {"layout": {"order": "chw"}},
    ],
    "gray": [
        "grayscale",
        {"resize": {"size": 28, "kernel": "pillow-bilinear"}},
        {"scale": {"divide": 255.0}},
        {"normalize": {"mean": 0.1307, "std": 0.3081}},
        {"layout": {"order": "hw"}},
    ],
    "halves": [
        {"resize": {"size": 40, "kernel": "nearest"}},
        {"scale": {"divide": 255.0}},
        {"cast": {"to": "float16"}},
        {"layout": {"order": "hwc"}},
    ],
}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_pictures(tmp_path_factory.mktemp("pictures"))


def steps_of(data: list[object]) -> list[object]:
    return list(plain_steps(parse_steps(data, PRE_STEPS, "$")))


def found_by(finding: Finding) -> list[object]:
    return list(plain_steps(finding.steps))


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_found_again(name: str, pictures: Path, tmp_path: Path) -> None:
    finding = fit_steps(write_reference(tmp_path, STEPS.format(steps=RECIPES[name])), pictures, takes="rgb")
    assert finding.ok, finding.why
    assert found_by(finding) == steps_of(RECIPES[name])
    assert finding.proof is not None
    assert finding.proof.equal == finding.proof.samples == 4


def random_recipe(rng: np.random.Generator) -> list[object]:
    """A geometry, a kernel, colours; the values are another test's."""
    kernel = str(rng.choice(["pillow-bilinear", "pillow-bicubic", "opencv-linear", "nearest"]))
    side, more = int(rng.integers(24, 48)), int(rng.integers(4, 14))
    geometries: list[list[object]] = [
        [{"resize": {"size": side, "kernel": kernel}}],
        [{"resize": {"size": [side, side + more], "kernel": kernel}}],
        [{"resize": {"shorter": side + more, "kernel": kernel}}, {"center_crop": {"size": side}}],
        [{"resize": {"size": side + more, "kernel": kernel}}, {"center_crop": {"size": side}}],
        [{"letterbox": {"size": side, "fill": int(rng.choice([0, 114, 128, 255])), "kernel": kernel,
                        "center": bool(rng.integers(2))}}],
        [{"resize": {"shorter": side, "kernel": kernel}}],
        [{"resize": {"longer": side, "kernel": kernel}}],
    ]  # fmt: skip
    colours: list[list[object]] = [[], [{"channels": {"order": "bgr"}}], [{"grayscale": {"channels": 3}}]]
    return [*geometries[rng.integers(len(geometries))], *colours[rng.integers(3)]]


@pytest.mark.parametrize("seed", range(24))
def test_random_geometries_kernels_and_colours_are_found_again(seed: int, pictures: Path) -> None:
    data = random_recipe(np.random.default_rng(seed))
    steps = parse_steps(data, PRE_STEPS, "$")
    evidence = []
    for path in sorted(pictures.iterdir()):
        source = decode_image(path.read_bytes(), Decode())
        evidence.append(Evidence(path.name, source, reference_pre(steps, source).astype(np.float32) / 255))
    fits, _ = search(evidence)
    assert fits, data
    first = fits[0]
    moves = first.geometry.steps(first.kernel, first.order, first.fill)
    assert list(plain_steps(moves)) == list(plain_steps(steps[: len(moves)])), data
    colours = {"channels": "bgr", "grayscale": "gray"}.get(steps[-1].name, "rgb")
    assert first.colours == colours
