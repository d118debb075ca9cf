"""The `inference.yml` that PaddleClas and PaddleX write: its steps give what PaddleX makes of a picture."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from PIL import Image

from modelport.bundle.store import Bundle
from modelport.cli.main import run
from modelport.importers.paddle_recipe import stated_beside
from modelport.importers.pictures import LAST_DIGITS, difference
from modelport.steps.compile import PRE_STEPS
from modelport.steps.step import parse_steps
from modelport.tensors import Array

from .private import private

SHAPES = [[1, 3, 224, 224], [1, 3, 224, 224], [8, 3, 224, 224]]
EXPORTED: dict[str, Any] = {
    # As ppcls/utils/config.py dumps it: one list of shapes named twice, which YAML writes as an alias.
    "Global": {"model_name": "PP-LCNet_x1_0"},
    "Hpi": {"backend_configs": {name: {"dynamic_shapes": {"x": SHAPES}} for name in ("a", "b")}},
    "PreProcess": {
        "transform_ops": [
            {"ResizeImage": {"resize_short": 256}},
            {"CropImage": {"size": 224}},
            {
                "NormalizeImage": {
                    "channel_num": 3,
                    "mean": [0.485, 0.456, 0.406],
                    "order": "",
                    "scale": 1 / 255,
                    "std": [0.229, 0.224, 0.225],
                }
            },
            {"ToCHWImage": None},
        ]
    },
    "PostProcess": {"Topk": {"topk": 2, "label_list": ["cat", "a dog: long-haired"]}},
}


def exported(folder: Path, changed: dict[str, Any] | None = None, resize: Any = None) -> Path:
    """The program's path, with the file beside it."""
    said = copy.deepcopy(EXPORTED) | (changed or {})
    if resize is not None:
        said["PreProcess"]["transform_ops"][0] = {"ResizeImage": resize}
    (folder / "inference.yml").write_text(yaml.dump(said, sort_keys=False))
    return folder / "inference.json"


def as_paddlex(picture: Array, resize: dict[str, Any], crop: int = 224) -> Array:
    """PaddleX's own way: ResizeByShort or Resize, Crop, Normalize and ToCHWImage."""
    height, width = picture.shape[:2]
    if "resize_short" in resize:
        scale = resize["resize_short"] / min(height, width)
        size = (round(width * scale), round(height * scale))
    else:
        size = tuple(resize["size"])
    if resize.get("backend") == "pil":
        kernel = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
        made = np.asarray(Image.fromarray(picture).resize(size, kernel[resize["interpolation"]]))
    else:
        made = cv2.resize(picture, size, interpolation=cv2.INTER_LINEAR)
    left, top = (max(0, (side - crop) // 2) for side in size)
    made = made[top : top + crop, left : left + crop].astype(np.float32)
    mean, std = np.array([0.485, 0.456, 0.406]), np.array([0.229, 0.224, 0.225])
    made = made * (1 / 255 / std).astype(np.float32) + (-mean / std).astype(np.float32)
    return np.ascontiguousarray(made.transpose(2, 0, 1), np.float32)


@pytest.mark.parametrize(
    "resize",
    [
        {"resize_short": 256},
        {"resize_short": 251, "interpolation": "bicubic", "backend": "pil"},
        {"resize_short": 256, "interpolation": "bilinear", "backend": "pil"},
        {"size": [256, 248]},  # width and height
    ],
    ids=str,
)
def test_the_steps_give_what_paddlex_makes_of_a_picture(resize: dict[str, Any], tmp_path: Path) -> None:
    stated = stated_beside(exported(tmp_path, resize=resize))
    assert stated is not None and stated.recipe is not None, stated
    assert stated.labels == ("cat", "a dog: long-haired") and stated.recipe.parameters["top_k"] == 2
    steps = parse_steps(stated.recipe.pre, PRE_STEPS, "$.pre")
    off, count = difference(steps, lambda picture: as_paddlex(picture, resize))
    assert off < LAST_DIGITS and count >= 8


@pytest.mark.parametrize(
    ("changed", "resize", "why"),
    [
        ({}, {"resize_short": 256, "interpolation": "bicubic"}, "resizes with bicubic of cv2"),
        ({}, {"resize_short": 256, "interpolation": "random"}, "resizes with random"),
        ({}, {"resize_short": 200}, "crops 224 out of 200"),
        ({}, {}, "ResizeImage with {}"),
        ({"PreProcess": {"transform_ops": [{"DetResizeForTest": None}]}}, None, "has DetResizeForTest"),
        (
            {"PreProcess": {"transform_ops": [{"ToCHWImage": None}, {"CropImage": None}]}},
            None,
            "behind ToCHW",
        ),
        ({"PreProcess": {"transform_ops": [{"CropImage": {"size": 8}}]}}, None, "has no ToCHWImage"),
        ({"PreProcess": None}, None, "has no PreProcess.transform_ops"),
        ({"PostProcess": {"MultiLabelThreshOutput": {"threshold": 0.5}}}, None, "ends in MultiLabelThresh"),
        ({"PostProcess": {"NormalizeFeatures": None}}, None, "ends in NormalizeFeatures, and only Topk"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_no_step_does_is_named_and_not_guessed(
    changed: dict[str, Any], resize: Any, why: str, tmp_path: Path
) -> None:
    stated = stated_beside(exported(tmp_path, changed, resize))
    assert stated is not None and stated.recipe is None and stated.declared() is None
    assert why in stated.problem


def test_a_detectors_file_is_shown_and_its_labels_taken(tmp_path: Path) -> None:
    """As ppdet/engine/export_utils.py writes it."""
    said = {
        "mode": "paddle",
        "draw_threshold": 0.5,
        "arch": "YOLO",
        "Preprocess": [
            {"interp": 2, "keep_ratio": False, "target_size": [640, 640], "type": "Resize"},
            {"mean": [0.0, 0.0, 0.0], "norm_type": "none", "std": [1.0, 1.0, 1.0], "type": "NormalizeImage"},
            {"type": "Permute"},
        ],
        "label_list": ["person", "bicycle"],
    }
    (tmp_path / "infer_cfg.yml").write_text(yaml.dump(said))
    stated = stated_beside(tmp_path / "model.pdmodel")
    assert stated is not None and stated.recipe is None and stated.labels == ("person", "bicycle")
    assert "Resize(interp=2, keep_ratio=False, target_size=[640, 640]) then" in stated.problem


@pytest.mark.parametrize("text", ["[1, 2", "- a", "", "!!python/object/apply:os.system [true]", "\x00"])
def test_what_is_no_such_file_says_nothing(text: str, tmp_path: Path) -> None:
    (tmp_path / "inference.yml").write_text(text)
    stated = stated_beside(tmp_path / "inference.json")
    assert stated is not None and stated.recipe is None and "\n" not in stated.problem
    assert stated_beside(tmp_path / "elsewhere" / "inference.json") is None


@pytest.mark.frameworks
def test_a_network_with_its_file_needs_no_recipe(shared_data: Path, tmp_path: Path) -> None:
    source = shared_data / "paddle"
    photos = sorted((shared_data / "imagenet200").glob("*.JPEG"))[:2]
    if not photos or not (source / "cat_dog.json").is_file():
        pytest.skip(f"no {source}/cat_dog.json, or no photos of ImageNet")
    folder = tmp_path / "exported"
    folder.mkdir()
    exported(folder)
    for kind in ("json", "pdiparams"):
        (folder / f"inference.{kind}").write_bytes((source / f"cat_dog.{kind}").read_bytes())
    command = ["pack", str(folder), "--name", "pets", "--out", str(tmp_path / "repo")]
    with private("paddle"):
        assert run([*command, *(word for photo in photos for word in ("--golden", str(photo)))]) == 0
    bundle = Bundle.open(tmp_path / "repo" / "pets" / "1")
    assert [next(iter(step)) for step in bundle.manifest.steps.pre][:2] == ["resize", "center_crop"]
    assert bundle.read("labels.txt").decode().splitlines() == ["cat", "a dog: long-haired"]
    assert bundle.manifest.golden is not None and not bundle.manifest.golden.generated


def test_a_label_list_whose_keys_are_no_indices_is_none(tmp_path: Path) -> None:
    after = {"Topk": {"topk": 2, "label_list": {0: "cat", "one": "dog"}}}
    stated = stated_beside(exported(tmp_path, {"PostProcess": after}))
    assert stated is not None and stated.recipe is not None and stated.labels == ()
