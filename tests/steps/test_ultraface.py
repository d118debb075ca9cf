"""UltraFace, a real SSD: the packed bundle against the way its own demo computes boxes, written out here."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

import modelport
from modelport.runtimes.pipeline import Pipeline
from modelport.tensors import Array

cv2 = pytest.importorskip("cv2")

SCORE, IOU = 0.7, 0.3


def demo(network: Path, picture: Array) -> Array:
    """x1, y1, x2, y2, score of the faces: resize, (x - 127) / 128, hard NMS on the original's pixels."""
    session = onnxruntime.InferenceSession(str(network), providers=["CPUExecutionProvider"])
    seen = (cv2.resize(picture, (320, 240)).astype(np.float32) - 127) / 128
    scores, boxes = session.run(None, {"input": seen.transpose(2, 0, 1)[None]})
    height, width = picture.shape[:2]
    sure = scores[0, :, 1] > SCORE
    found = np.concatenate([boxes[0][sure] * [width, height, width, height], scores[0][sure, 1:]], axis=1)
    found = found[np.argsort(-found[:, 4], kind="stable")]
    kept: list[Array] = []
    while len(found):
        best, found = found[0], found[1:]
        kept.append(best)
        sides = np.minimum(best[2:4], found[:, 2:4]) - np.maximum(best[:2], found[:, :2])
        shared = np.clip(sides, 0, None).prod(axis=1)
        areas = (found[:, 2:4] - found[:, :2]).prod(axis=1)
        found = found[shared / ((best[2:4] - best[:2]).prod() + areas - shared) <= IOU]
    return np.array(kept).reshape(-1, 5)


def test_faces_are_where_its_own_demo_finds_them(tmp_path: Path, shared_data: Path) -> None:
    network = shared_data / "face" / "onnx" / "version-RFB-320.onnx"
    if not network.is_file():
        pytest.skip("there is no UltraFace")
    photos = sorted((network.parents[1] / "images").glob("*.jpg"))
    bundle = modelport.pack(network, out=tmp_path, name="faces", golden=photos[:2])
    assert bundle.labels() == ("face",)
    assert bundle.manifest.graphs.net.batch
    seen = 0
    with Pipeline.open(bundle) as pipeline:
        for photo in photos:
            picture = np.asarray(Image.open(photo).convert("RGB"))
            want = demo(network, picture)
            answer = pipeline.answer({"image": picture}, {"score_threshold": SCORE, "iou_threshold": IOU})
            count = int(answer["count"])
            assert count == min(len(want), 200)
            np.testing.assert_allclose(answer["scores"][:count], want[:count, 4], atol=1e-3)
            limits = [picture.shape[1], picture.shape[0]] * 2
            np.testing.assert_allclose(
                answer["boxes"][:count], np.clip(want[:count, :4], 0, limits), atol=0.5
            )
            seen += count
    assert seen > 30
