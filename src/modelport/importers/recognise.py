"""Which detector is this? Told from the shapes of a network's outputs, the file's own words, and its answers.

Recognising is a proposal with its reason; where two families look alike the question is put, never guessed.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Callable, Mapping
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError, ModelFailed, Unsupported
from ..tensors import Array, Signature, TensorSpec
from .source import Reference

ANCHOR_STRIDES = ((8, 16, 32), (8, 16, 32, 64), (4, 8, 16, 32))
NANODET_STRIDES = (8, 16, 32, 64)
ULTRAFACE = {4420: "ultraface-320", 17640: "ultraface-640"}
"""Places of the UltraFace detectors at 320 x 240 and 640 x 480, and what their priors are called."""

Probe = Callable[[], Reference]
"""Loads the network and gives the way to run it; asked only where shapes do not tell."""


class Recognised(msgspec.Struct, frozen=True):
    """A recipe with the reason for it, or the recipes that remain possible with what tells them apart."""

    recipe: str = ""
    why: str = ""
    settings: dict[str, Any] = {}
    labels: tuple[str, ...] = ()
    """Class names that go with it, where neither the file nor the user has any."""
    choices: dict[str, str] = {}


class _Network(msgspec.Struct, frozen=True):
    sides: tuple[int, int]
    """Height and width of the picture."""
    three: dict[str, tuple[int | str, ...]]
    """Outputs of three axes."""
    five: dict[str, tuple[int | str, ...]]
    words: Mapping[str, str]
    names: int
    """Class names in the file, 0 where there are none."""


def recognise(signature: Signature, words: Mapping[str, str], probe: Probe) -> Recognised | None:
    """What the network is; None where it does not look like a detector.

    Args:
        signature: the first axis of each input and output is the batch.
        words: the file's metadata.
        probe: see `Probe`.
    """
    if len(signature.inputs) != 1:
        return None
    sides = _sides(signature.inputs[0], words)
    if sides is None:
        return None
    outputs = {spec.name: spec.shape for spec in signature.outputs if spec.dtype == "float32"}
    network = _Network(
        sides,
        {name: shape for name, shape in outputs.items() if len(shape) == 3},
        {name: shape for name, shape in outputs.items() if len(shape) == 5},
        words,
        _length(_value(words.get("names"))),
    )
    task = words.get("task", "detect")
    if task == "obb":
        return Recognised(choices={"": "its boxes are rotated, which no recipe maps back"})
    if "rtdetr" in f"{words.get('head')} {words.get('description')}".lower():
        # Its six numbers would pass for those of YOLOv10, and give boxes of a pixel.
        return Recognised(choices={"": "it is Ultralytics' RT-DETR, whose form of boxes no recipe reads"})
    if task not in ("detect", "segment", "pose"):
        return None
    if len(network.three) == 2 and task == "detect":
        return _two(_with_shape(network, signature.inputs[0], probe), signature.inputs[0], probe)
    if len(network.three) == 1:
        network = _with_shape(network, signature.inputs[0], probe)
        found = _one(network, signature.inputs[0], probe)
        return found and _at_its_size(found, signature.inputs[0], words)
    if len(network.five) == 3 and not network.three and {shape[1] for shape in network.five.values()} == {3}:
        width = next(iter(network.five.values()))[4]
        why = f"three outputs of 3 anchors and {width} logits each: YOLOv5 or v7 without its last layer"
        return Recognised("yolov5-raw", why)
    return None


def _with_shape(network: _Network, spec: TensorSpec, probe: Probe) -> _Network:
    """The network with the sizes that its outputs have on a picture, where the file leaves them open."""
    known = all(isinstance(size, int) for shape in network.three.values() for size in shape[1:])
    if known or spec.dtype != "float32":
        return network
    try:
        made = probe()(_noise(spec, network.sides))
    except (InputError, ModelFailed, Unsupported):
        return network
    return msgspec.structs.replace(network, three={name: made[name].shape for name in network.three})


def _one(network: _Network, spec: TensorSpec, probe: Probe) -> Recognised | None:
    """A network with one output of three axes."""
    ((name, (_, rows, width)),) = network.three.items()
    height, broad = network.sides
    at = f"of {broad} x {height} pixels"
    extra = _extra(network.words)
    if isinstance(width, int) and width == 6 and isinstance(rows, int) and rows <= 1000:
        return Recognised("yolov10", f"{name}: {rows} places of 6 numbers, each object once")
    for strides in ANCHOR_STRIDES:
        cells = sum(-(-height // stride) * -(-broad // stride) for stride in strides)
        told = f"strides {', '.join(map(str, strides))} {at}"
        if isinstance(width, int) and width > 5:
            if rows == 3 * cells:
                why = f"{name}: {rows} places are 3 anchors at {told}, {width} numbers each: YOLOv5 or v7"
                return Recognised("yolov5", why, extra)
            if rows == cells and strides == NANODET_STRIDES and width > 32 and "stride" not in network.words:
                return Recognised("nanodet", f"{name}: {rows} places at {told}, {width - 32} classes + 4 x 8")
            if rows == cells and strides == (8, 16, 32):
                return _cells(name, rows, width, told, spec, network, probe)
        if isinstance(rows, int) and rows > 4 and width in (cells, 3 * cells):
            why = f"{name}: {width} places at {told}, {rows} numbers each: YOLOv8, v9, v11 or v12"
            return Recognised("yolov8", why, extra)
    return _by_names(name, rows, width, network, extra)


def _by_names(
    name: str, rows: int | str, width: int | str, network: _Network, extra: dict[str, Any]
) -> Recognised | None:
    """The places do not tell: the numbers of each have to, with the file's class names."""
    names = network.names
    beside = names + int(extra.get("extra", 0))
    if names and rows == 4 + beside:
        return Recognised("yolov8", f"{name}: 4 + {names} numbers, as many as the file has names", extra)
    if names and width == 5 + beside:
        return Recognised("yolov5", f"{name}: 5 + {names} numbers, as many as the file has names", extra)
    if isinstance(width, int) and isinstance(rows, str) and width > 6:
        return Recognised(choices={"yolov5": _YOLOV5, "yolox": _YOLOX, "nanodet": _NANODET})
    return None


_YOLOV5 = "boxes in pixels, RGB divided by 255, letterbox in the middle"
_YOLOX = "boxes told from their cells, BGR 0 to 255, letterbox at the top left"
_NANODET = "32 numbers for each box, BGR with mean and deviation"
_DETR = "softmax, the last class no object, ImageNet's mean and deviation"
_RTDETR = "a sigmoid for each class, divided by 255"
_SSD = "decoded boxes and scores; say --set mean=, std=, background="


def _cells(
    name: str, rows: int, width: int, told: str, spec: TensorSpec, network: _Network, probe: Probe
) -> Recognised:
    """One place for each cell, boxes first: YOLOX, or YOLOv6; their numbers on a picture tell which."""
    where = f"{name}: {rows} places at {told}, {width} numbers each"
    boxes = probe()(_noise(spec, network.sides))[name]
    decoded = float(np.abs(boxes[..., :2]).max(initial=0)) > 0.25 * min(network.sides)
    if not decoded:
        return Recognised("yolox", f"{where}, and its boxes are told from their cells: YOLOX")
    if bool((boxes[..., 4] == 1).all()):
        why = f"{where}, its boxes are pixels and its objectness is always 1: YOLOv6, prepared as YOLOv5"
        return Recognised("yolov5", why)
    return Recognised(
        choices={
            "yolox --set decoded=true": "YOLOX that was exported with --decode_in_inference, BGR 0 to 255",
            "yolov5": "anything that takes RGB divided by 255 with the letterbox in the middle",
        }
    )


def _two(network: _Network, spec: TensorSpec, probe: Probe) -> Recognised | None:
    """Boxes and scores."""
    boxes = [name for name, shape in network.three.items() if shape[2] == 4]
    if len(boxes) != 1:
        return None
    scores = next(name for name in network.three if name != boxes[0])
    _, places, classes = network.three[scores]
    shown = f"{boxes[0]} and {scores}: {places} boxes with {classes} classes"
    if (places, classes) == (100, 92):
        return Recognised("detr", f"{shown}: DETR or YOLOS, trained on COCO")
    if (places, classes) == (300, 80):
        return Recognised("rtdetr", f"{shown}: RT-DETR, trained on COCO")
    if places in ULTRAFACE and classes == 2:
        try:
            made = probe()(_noise(spec, network.sides))[boxes[0]]
            decoded = bool((made[..., 2:] > made[..., :2]).all())
        except (InputError, ModelFailed, Unsupported):
            decoded = True
        if decoded:
            return Recognised("ssd", f"{shown}: UltraFace", labels=("face",))
        why = f"{shown}: UltraFace without its last layers, boxes told from priors"
        return Recognised("ssd", why, {"priors": ULTRAFACE[int(places)]}, labels=("face",))
    if "logits" in scores:
        return Recognised(choices={"detr": _DETR, "rtdetr": _RTDETR})
    return Recognised(choices={"ssd": _SSD, "detr": _DETR, "rtdetr": _RTDETR})


def _sides(spec: TensorSpec, words: Mapping[str, str]) -> tuple[int, int] | None:
    """Height and width of the picture that the network takes; the file's or 640 where they are open."""
    if len(spec.shape) != 4 or 3 not in (spec.shape[1], spec.shape[3]):
        return None
    height, width = spec.shape[2:4] if spec.shape[1] == 3 else spec.shape[1:3]
    if isinstance(height, int) and isinstance(width, int):
        return height, width
    said = _value(words.get("imgsz"))
    if isinstance(said, list) and [type(side) for side in said] == [int, int] and min(said) > 0:
        return said[0], said[1]
    return 640, 640


def _at_its_size(found: Recognised, spec: TensorSpec, words: Mapping[str, str]) -> Recognised:
    """With the size that the file says, where the network's is open."""
    if all(isinstance(side, int) for side in spec.shape[1:]) or "imgsz" not in words:
        return found
    sides = _sides(spec, words)
    size: Any = sides if sides is None or sides[0] != sides[1] else sides[0]
    return msgspec.structs.replace(found, settings=found.settings | {"size": size}) if size else found


def _extra(words: Mapping[str, str]) -> dict[str, Any]:
    """What stands behind the classes of networks that do more than detect."""
    if words.get("task") == "segment":
        return {"extra": 32}
    points = _value(words.get("kpt_shape"))
    if words.get("task") == "pose" and isinstance(points, list) and [type(n) for n in points] == [int, int]:
        return {"extra": max(0, points[0] * points[1])}
    return {}


def _value(text: str | None) -> Any:
    """A JSON or Python literal of the metadata; None where it is none."""
    if not text or len(text) > 1 << 20:
        return None
    try:
        return json.loads(text)
    except ValueError:
        pass
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, TypeError, MemoryError, RecursionError):
        return None


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _noise(spec: TensorSpec, sides: tuple[int, int]) -> dict[str, Array]:
    """A picture of coarse noise, 0 to 255, as the network takes it."""
    random = np.random.default_rng(6)
    height, width = sides
    pixels = random.uniform(0, 255, (3, height // 16 + 1, width // 16 + 1)).repeat(16, 1).repeat(16, 2)
    pixels = pixels[:, :height, :width].astype(np.float32)
    return {spec.name: (pixels if spec.shape[1] == 3 else pixels.transpose(1, 2, 0))[None]}
