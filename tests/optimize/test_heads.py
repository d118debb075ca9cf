"""The pass that leaves the decoding of boxes to `post`."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.importers.pack import pack
from modelport.optimize.calibration import read_calibration
from modelport.optimize.candidate import NotApplicable, apply, network_of, opened
from modelport.optimize.passes.heads import Heads
from modelport.runtimes.pipeline import Pipeline

from ..yolo import yolov5


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    random = np.random.default_rng(1)
    for number in range(10):
        pixels = random.integers(0, 255, (60 + number, 80, 3), np.uint8)
        Image.fromarray(pixels).save(folder / f"{number}.png")
    return folder


@pytest.mark.parametrize("last", [False, True], ids=["planes", "channels last"])
@pytest.mark.parametrize(("recipe", "turned"), [("yolov5", False), ("yolov8", True)])
def test_the_answers_are_the_start_s(
    tmp_path: Path, photos: Path, recipe: str, turned: bool, last: bool
) -> None:
    start = pack(yolov5(turned=turned), out=tmp_path, name="boxes", recipe=recipe, labels=["a", "b", "c"])
    calibration = read_calibration(start, photos)
    step = Heads(start.manifest.steps.post, channels_last=last)
    candidate = apply(step, start, calibration, tmp_path / "work")
    outputs = candidate.bundle.manifest.graphs.net.signature.outputs
    assert [spec.shape[3 if last else 1] for spec in outputs] == [24, 24, 24]
    assert len(network_of(candidate.bundle).graph.node) < len(network_of(start).graph.node)
    with opened(candidate) as cut, Pipeline.open(start, variant="") as whole:
        for item in calibration.items:
            got, want = (each.answer(each.decode(item), {"score_threshold": 0.3}) for each in (cut, whole))
            assert want["count"] > 0
            np.testing.assert_array_equal(got["classes"], want["classes"])
            np.testing.assert_allclose(got["boxes"], want["boxes"], rtol=1e-4, atol=1e-2)
            np.testing.assert_allclose(got["scores"], want["scores"], rtol=1e-5)


def test_what_is_no_such_detector_is_left(tmp_path: Path, photos: Path) -> None:
    start = pack(yolov5(power=1.0), out=tmp_path, name="boxes", recipe="yolov5", labels=["a", "b", "c"])
    with pytest.raises(NotApplicable, match="another way"):
        apply(Heads(start.manifest.steps.post), start, read_calibration(start, photos), tmp_path / "work")
