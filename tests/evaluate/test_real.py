"""Real models on real pictures: the figures that others give for them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import modelport


def test_yolov5n_on_coco128_is_within_a_fifth_of_a_point_of_ultralytics_val(
    shared_data: Path, tmp_path: Path
) -> None:
    data = shared_data / "coco128"
    names = re.findall(r"^ +\d+: (.+)$", (data / "config.yaml").read_text(), re.M)
    bundle = modelport.pack(
        shared_data / "yolov5n" / "yolov5n.onnx", out=tmp_path, name="y", recipe="yolov5", labels=names
    )
    found = modelport.evaluate(bundle, data)
    assert len(names) == 80 and len(found.outcomes) == 128
    # benchmarks/coco128.py: Ultralytics 8.4.190, conf .001, iou .7
    assert found["ultralytics_map"] == pytest.approx(0.35351, abs=0.002)
    assert found["ultralytics_map50"] == pytest.approx(0.53900, abs=0.002)
    # COCO's own definition on the same boxes.
    assert found["map"] == pytest.approx(0.35737, abs=0.001)
    assert found.items == 128 and not found.failed
    assert any("labels/000000000656.txt, labels/000000000659.txt" in note for note in found.notes)


def test_squeezenet_on_imagenet_photos_is_as_by_hand(shared_data: Path, tmp_path: Path) -> None:
    photos = shared_data / "imagenet200"
    labels = (photos / "imagenet_labels.txt").read_text().splitlines()[1:]
    bundle = modelport.pack(
        shared_data / "squeezenet" / "squeezenet1.1.onnx",
        out=tmp_path,
        name="s",
        recipe="imagenet-caffe",
        labels=labels,
    )
    found = modelport.evaluate(bundle, photos, replicates=200)
    assert (found["accuracy"], found["top5"]) == (0.715, 0.905)
