"""Against Ultralytics itself: its letterbox byte by byte, and its predictions box by box.

`ultralytics.json` was recorded in an environment of its own, since the library brings two gigabytes along:
`LetterBox(size, auto=False)(image=noise(height, width))`, for `auto` `LetterBox(640, auto=True, stride=32)`;
the first on the pictures of COCO128 as well, as `cv2.imread` reads them, SHA-256 of the bytes;
`YOLO(…).predict(picture, conf=0.25, iou=0.45)` with yolov5n's ONNX file, its objectness multiplied into its
classes and turned, the only form that this version of it reads.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest

import modelport
from modelport.bundle.manifest import Decode
from modelport.runtimes.pipeline import Pipeline
from modelport.steps.compile import compile_pre
from modelport.steps.decode import decode_image
from modelport.steps.resize import Letterbox
from modelport.tensors import Array

from .graphs import session

RECORDED: dict[str, Any] = json.loads(Path(__file__).with_name("ultralytics.json").read_text())
STEPS = {
    "640": Letterbox(640),
    "[384, 640]": Letterbox((384, 640)),
    "320 down": Letterbox(320, scaleup=False),
    "auto": Letterbox(640, multiple=32),
}


def noise(height: int, width: int) -> Array:
    return np.random.default_rng([height, width]).integers(0, 256, (height, width, 3), dtype=np.uint8)


def digest(pixels: Array) -> str:
    return hashlib.sha256(np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


def graph_of(step: Letterbox) -> onnxruntime.InferenceSession:
    return session(compile_pre([step], "x").data)


@pytest.mark.parametrize("kind", STEPS)
def test_the_letterbox_is_ultralytics_own(kind: str) -> None:
    step = STEPS[kind]
    graph = graph_of(step)
    seen = 0
    for name, want in RECORDED["letterbox"].items():
        if not name.startswith(f"{kind} "):
            continue
        height, width = (int(side) for side in name.rsplit(" ", 1)[1].split("x"))
        picture = noise(height, width)
        assert digest(graph.run(None, {"image": picture})[0]) == want, name
        assert digest(step.reference(picture)) == want, name
        seen += 1
    assert seen == 18


def test_photos_are_decoded_and_prepared_as_ultralytics_does(shared_data: Path) -> None:
    photos = shared_data / "coco128" / "images"
    if not photos.is_dir():
        pytest.skip("there is no coco128")
    graph = graph_of(Letterbox(640))
    for name, want in RECORDED["coco128"].items():
        picture = decode_image(next(photos.rglob(name)).read_bytes(), Decode())
        assert digest(graph.run(None, {"image": picture})[0]) == want, name


def test_yolov5n_finds_what_ultralytics_finds(tmp_path: Path, shared_data: Path) -> None:
    folder = shared_data / "yolov5n"
    if not (folder / "yolov5n.onnx").is_file():
        pytest.skip("there is no yolov5n")
    notes: list[str] = []
    photos = [folder / name for name in RECORDED["predict"]]
    bundle = modelport.pack(
        folder / "yolov5n.onnx", out=tmp_path, golden=photos, progress=notes.append, description="COCO"
    )
    assert any(note.startswith("recognised: ") and "the recipe is yolov5" in note for note in notes)
    assert bundle.manifest.graphs.net.batch
    with Pipeline.open(bundle, threads=2) as pipeline:
        pictures = [pipeline.decode(photo.read_bytes()) for photo in photos]
        # Of different sizes, in one batch.
        assert len({picture["image"].shape for picture in pictures}) == len(pictures)
        for photo, answer in zip(photos, pipeline.answer_many(pictures), strict=True):
            want = RECORDED["predict"][photo.name]
            got = pipeline.readable(answer)
            assert isinstance(got, list)
            assert [found["class"] for found in got] == [kind for _, kind, _ in want]
            for found, (score, _, box) in zip(got, want, strict=True):
                assert found["score"] == pytest.approx(score, abs=1e-3)
                assert found["box"] == pytest.approx(box, abs=0.1)
    bus = [(kind, round(score, 3)) for score, kind, _ in RECORDED["predict"]["bus.jpg"]]
    assert bus == [(0, 0.823), (0, 0.816), (0, 0.676), (5, 0.526)]
