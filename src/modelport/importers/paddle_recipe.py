"""The preparation that PaddleClas and PaddleX write beside an exported classifier, as steps.

`inference.yml` holds `PreProcess.transform_ops` and `PostProcess.Topk`. What each operator does is PaddleX's
reading of the file (paddlex/inference/models/image_classification, models/common/vision/processors.py) and
PaddleClas' own (deploy/python/preprocess.py), which are the same: the picture is RGB, sides are
[width, height], `resize_short` rounds the longer side, OpenCV's bilinear is the kernel where none is named, a
crop begins at `(side - crop) // 2`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from ..errors import ModelportError, Unsupported
from ..steps.compile import PRE_STEPS
from ..steps.recipe import Recipe
from ..steps.step import parse_steps
from ..yaml_files import read_yaml
from .source import Declared

NAMES = ("inference.yml", "inference.yaml", "inference_cls.yaml", "infer_cfg.yml")
MAX_LABELS = 100_000
_MOST_WORDS = 400
"""Characters of what is said of a file: it may name anything as an operator or a size."""
_KERNELS = {
    ("cv2", "linear"): "opencv-linear",
    ("cv2", "bilinear"): "opencv-linear",
    ("pil", "bilinear"): "pillow-bilinear",
    ("pil", "bicubic"): "pillow-bicubic",
    ("pil", "nearest"): "nearest",
}
_USED = {
    "ResizeImage": {"size", "resize_short", "interpolation", "backend", "return_numpy"},
    "CropImage": {"size"},
    "NormalizeImage": {"scale", "mean", "std", "order", "channel_num", "output_fp16"},
    "ToCHWImage": set(),
}
_MEAN, _STD = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
Step = dict[str, dict[str, Any]]


class Stated(msgspec.Struct, frozen=True):
    """What lies beside a program: the file, a recipe or why there is none, and the class names."""

    file: Path
    recipe: Recipe | None = None
    problem: str = ""
    """The end of a sentence that begins with the file's name."""
    labels: tuple[str, ...] = ()

    def declared(self) -> Declared | None:
        """For `importers.choose`; None where there is no recipe."""
        if self.recipe is None:
            return None
        return Declared(self.recipe, f"{self.file.name} beside it", labels=self.labels)


class _NoStep(Exception):
    """The end of a sentence: what the file asks for that no step does."""


def stated_beside(program: Path) -> Stated | None:
    """What the first of `NAMES` in the program's folder says; None where there is none."""
    file = next((each for name in NAMES if (each := program.parent / name).is_file()), None)
    if file is None:
        return None
    try:
        said = _yaml(file)
        labels = _labels(said)
    except _NoStep as problem:
        return Stated(file, problem=_short(problem))
    try:
        return Stated(file, _recipe(said), labels=labels)
    except _NoStep as problem:
        return Stated(file, problem=_short(problem), labels=labels)
    except ModelportError as problem:
        return Stated(file, problem=_short(f"does not hold together: {problem.message}"), labels=labels)


def _short(problem: object) -> str:
    words = str(problem)
    return words if len(words) <= _MOST_WORDS else f"{words[:_MOST_WORDS]}…"


def _yaml(file: Path) -> Mapping[str, Any]:
    try:
        said = read_yaml(file)
    except Unsupported as problem:
        raise _NoStep("is not read without PyYAML (pip install pyyaml)") from problem
    except ModelportError as problem:
        raise _NoStep(f"is not read: {problem.message}") from problem
    return said if isinstance(said, dict) else {}


def _recipe(said: Mapping[str, Any]) -> Recipe:
    if "Preprocess" in said:
        raise _NoStep(f"is a detector's, of PaddleDetection: {_detector(said)}")
    operators = _of(said, "PreProcess").get("transform_ops")
    if not isinstance(operators, list) or not operators:
        raise _NoStep("has no PreProcess.transform_ops")
    after = _of(said, "PostProcess")
    topk = after.get("Topk") if isinstance(after.get("Topk"), dict) else None
    if topk is None:
        raise _NoStep(f"ends in {', '.join(map(str, after)) or 'no PostProcess'}, and only Topk is read")
    pre = _steps(operators)
    parse_steps(pre, PRE_STEPS, "$.pre")
    count = topk.get("topk")
    return Recipe(
        name="paddle",
        task="image-classification",
        description="As the inference.yml of PaddleClas or PaddleX prepares pictures.",
        parameters={"output": "", "top_k": count if type(count) is int and count > 0 else 5},
        pre=tuple(pre),
        # The program ends in its softmax as PaddleClas exports it; the step is left out then.
        post=({"softmax": {"of": "$output"}}, {"top_k": {"k": "$top_k"}}, "labels"),
    )


def _steps(operators: Sequence[Any]) -> list[Step]:
    made: list[Step] = []
    turned = False
    for each in operators:
        if not isinstance(each, dict) or len(each) != 1:
            raise _NoStep("has a transform that is not one operator")
        name, given = next(iter(each.items()))
        given = {} if given is None else given
        if name == "DecodeImage":
            if isinstance(given, dict) and (given.get("to_rgb") is False or given.get("channel_first")):
                raise _NoStep(f"decodes with {given}, for which there is no step")
            continue
        if name not in _USED or not isinstance(given, dict):
            raise _NoStep(f"has {name}, for which there is no step")
        if unknown := sorted(set(map(str, given)) - _USED[name]):
            raise _NoStep(f"has {name} with {', '.join(unknown)}, for which there is no step")
        if name == "NormalizeImage":
            made += _normalised(given, turned)
        elif turned:
            raise _NoStep(f"has {name} behind ToCHWImage, for which there is no step")
        elif name == "ResizeImage":
            made.append(_resized(given))
        elif name == "CropImage":
            made.append({"center_crop": {"size": _sides(given.get("size", 224)), "rounding": "down"}})
        else:
            turned = True
    if not turned:
        raise _NoStep("has no ToCHWImage")
    _check_crop(made)
    return [*made, {"layout": {"order": "chw"}}]


def _resized(given: Mapping[str, Any]) -> Step:
    backend = str(given.get("backend") or "cv2").lower()
    wanted = str(given.get("interpolation") or ("bilinear" if backend == "pil" else "linear")).lower()
    kernel = _KERNELS.get((backend, wanted))
    if kernel is None:
        raise _NoStep(f"resizes with {wanted} of {backend}, for which there is no step")
    short = given.get("resize_short")
    if type(short) is int and short > 0:
        return {"resize": {"shorter": short, "kernel": kernel, "rounding": "nearest"}}
    if short is not None or given.get("size") is None:
        raise _NoStep(f"has ResizeImage with {dict(given)}, for which there is no step")
    return {"resize": {"size": _sides(given["size"]), "kernel": kernel}}


def _normalised(given: Mapping[str, Any], turned: bool) -> list[Step]:
    order = given.get("order") or ("hwc" if not turned else "chw")
    if order != ("chw" if turned else "hwc"):
        raise _NoStep(f"normalises in the order {order!r} a picture that is not, for which there is no step")
    if given.get("channel_num", 3) != 3 or given.get("output_fp16"):
        raise _NoStep("normalises to 4 channels or float16, for which there is no step")
    mean, std = given.get("mean") or _MEAN, given.get("std") or _STD
    scale = _number(given["scale"]) if given.get("scale") is not None else 1.0 / 255.0
    steps: list[Step] = [] if scale == 1.0 else [{"scale": {"by": scale}}]
    return [*steps, {"normalize": {"mean": mean, "std": std}}]


def _number(said: Any) -> float:
    """A number, or a fraction in a text: `1.0/255.0`."""
    try:
        first, _, second = str(said).partition("/")
        return float(first) / float(second or 1)
    except (ValueError, ZeroDivisionError):
        raise _NoStep(f"scales by {said!r}, which is no number") from None


def _sides(size: Any) -> int | list[int]:
    """[height, width] of what Paddle writes as [width, height]."""
    if type(size) is int:
        return size
    if isinstance(size, list) and len(size) == 2 and all(type(side) is int for side in size):
        return [size[1], size[0]]
    raise _NoStep(f"has the size {size!r}, which is none")


def _check_crop(steps: Sequence[Step]) -> None:
    """Refuses a crop of more than there is, which Paddle does not do either."""
    resize = next((step["resize"] for step in steps if "resize" in step), None)
    crop = next((step["center_crop"]["size"] for step in steps if "center_crop" in step), None)
    if resize is None or crop is None:
        return
    made = resize.get("shorter") or resize["size"]
    pairs = [(side, side) if isinstance(side, int) else tuple(side) for side in (crop, made)]
    if any(want > have for want, have in zip(*pairs, strict=True)):
        raise _NoStep(f"crops {crop} out of {made}")


def _detector(said: Mapping[str, Any]) -> str:
    """What PaddleDetection's `infer_cfg.yml` says of the preparation, in words."""
    words = []
    for each in said["Preprocess"] if isinstance(said["Preprocess"], list) else ():
        if isinstance(each, dict):
            told = ", ".join(f"{key}={value}" for key, value in each.items() if key != "type")
            words.append(f"{each.get('type')}({told})" if told else str(each.get("type")))
    return " then ".join(words)[:300] or "it says nothing"


def _labels(said: Mapping[str, Any]) -> tuple[str, ...]:
    topk = _of(_of(said, "PostProcess"), "Topk")
    found = topk.get("label_list") or said.get("label_list")
    if isinstance(found, dict) and found.keys() == set(range(len(found))):
        found = [found[index] for index in range(len(found))]
    if not isinstance(found, list) or len(found) > MAX_LABELS:
        return ()
    return tuple(str(label)[:200] for label in found)


def _of(said: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    found = said.get(key)
    return found if isinstance(found, dict) else {}
