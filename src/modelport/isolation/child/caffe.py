"""A Caffe network (`.prototxt` and `.caffemodel`) to ONNX, and to what OpenCV computes with it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from . import caffe_network
from .caffe_network import Network
from .caffemodel import read_mean, read_weights
from .converter import NotConverted, Refused
from .frames import Array
from .onnx_graph import Value
from .opencv_network import OpenCvNetwork
from .prototxt import MAX_BYTES, Message, parse

BOXES, SCORES = "boxes", "scores"
LEAST_SCORE = 0.25
"""Prototxts for measuring ask for every box over 0.01; a user wants those that are likely."""


class Converter:
    """`open` converts; `run` has OpenCV compute."""

    def __init__(self) -> None:
        self._network: Network
        self._reference: OpenCvNetwork
        self._outputs: dict[str, str] = {}
        """Each output with what OpenCV calls the layer that makes it."""

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer."""
        if fields["do"] == "open":
            paths = str(fields["prototxt"]), str(fields["caffemodel"]), str(fields.get("mean") or "")
            return self.open(*paths, fields.get("inputs") or [])
        return {}, self.run(arrays)

    def open(
        self, prototxt: str, caffemodel: str, mean: str, inputs: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Convert a pair of files.

        Raises:
            Refused, NotConverted: see `caffe_network`; messages name the file or the layer.
        """
        text, weights = _text(Path(prototxt)), Path(caffemodel).read_bytes()
        description = _named(prototxt, lambda: parse(text))
        held = _named(caffemodel, lambda: read_weights(memoryview(weights)))
        layers = caffe_network.layers_of(description, held)
        given = {str(each["name"]): _fixed(each) for each in inputs}
        shapes = caffe_network.inputs_of(description, given)
        self._network = network = caffe_network.convert(layers, shapes)
        outputs = self._settle_outputs()
        self._reference = OpenCvNetwork(
            lambda cv2: cv2.dnn.readNetFromCaffe(
                np.frombuffer(text.encode(), np.uint8), np.frombuffer(weights, np.uint8)
            )
        )
        self._outputs = {
            blob: self._reference.named(network.makers[blob].name, blob) for blob in self._outputs
        }
        model = network.graph.model(
            {name: Value(name, shape) for name, shape in shapes.items()}, outputs, _words(network)
        )
        return {
            "framework": f"caffe, run by opencv {self._reference.version}",
            "kind": "caffe",
            "notes": _notes(network),
            "declared": _declared(description, network, outputs, mean),
        }, {"onnx": model}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """A batch, row by row."""
        rows = len(next(iter(arrays.values())))
        made = [
            self._row({name: array[row : row + 1] for name, array in arrays.items()}) for row in range(rows)
        ]
        return {name: np.concatenate([row[name] for row in made]) for name in made[0]}

    def _row(self, inputs: dict[str, Array]) -> dict[str, Array]:
        layers = list(dict.fromkeys(self._outputs.values()))
        found = dict(zip(layers, self._reference.run(inputs, layers), strict=True))
        values = self._network.values
        made: dict[str, Array] = {}
        for blob, maker in self._outputs.items():
            tops = self._network.makers[blob].tops
            array = found[maker][tops.index(blob) if len(tops) > 1 else 0]
            made[blob] = array.reshape(values[blob].shape)
        for each in self._network.detections:
            numbers, scores = each.layer.bottoms[:2]
            made[BOXES] = each.decode(made[numbers])[None]
            made[SCORES] = made[scores].reshape(1, -1, each.classes)
            for blob in {numbers, scores} - set(self._network.unused):
                del made[blob]
        return made

    def _settle_outputs(self) -> dict[str, Value]:
        """What nobody takes is given out; of a detector, the decoded boxes and their scores."""
        network = self._network
        made = {name: network.values[name] for name in network.unused}
        self._outputs = {name: network.makers[name].name for name in made}
        if len(network.detections) > 1 or (network.detections and {BOXES, SCORES} & made.keys()):
            raise NotConverted("the network has several outputs of detections")
        for each in network.detections:
            numbers, scores = each.layer.bottoms[:2]
            made[BOXES], made[SCORES] = each.append(
                network.graph, network.values[numbers], network.values[scores]
            )
            self._outputs |= {name: network.makers[name].name for name in (numbers, scores)}
        if not made:
            raise Refused("the prototxt describes a network that gives nothing")
        return made


def _named(path: str, read: Any) -> Any:
    try:
        return read()
    except Refused as problem:
        raise Refused(f"{Path(path).name}: {problem}", problem.hint) from problem


def _text(path: Path) -> str:
    if path.stat().st_size > MAX_BYTES:
        raise Refused(f"{path.name} has {path.stat().st_size} bytes; no prototxt has")
    try:
        return path.read_text("utf-8")
    except UnicodeDecodeError:
        raise Refused(f"{path.name} is no text; the prototxt is") from None


def _fixed(spec: dict[str, Any]) -> tuple[int, ...]:
    sides = [1 if index == 0 else side for index, side in enumerate(spec["shape"])]
    if not all(isinstance(side, int) for side in sides):
        raise NotConverted(
            f"the input {spec['name']!r} has open sides; a Caffe network has one size",
            f"state numbers: --input {spec['name']}:float32[1,3,224,224]",
        )
    return tuple(sides)


def _words(network: Network) -> dict[str, str]:
    return {"producer": "caffe"}


def _notes(network: Network) -> list[str]:
    notes = []
    for each in network.detections:
        settings = each.layer.settings.message("detection_output_param")
        stated = {
            "confidence": settings.number("confidence_threshold", 0.0),
            "IoU": settings.message("nms_param").number("nms_threshold", 0.3),
        }
        notes.append(
            f"the layer {each.layer.name!r} (DetectionOutput) gives all {len(each.prior)} decoded boxes with "
            f"their scores; choosing among them is the recipe's (the prototxt states "
            + ", ".join(f"{name} {value:g}" for name, value in stated.items())
            + f"; background: {each.background})"
        )
    return notes


def _declared(description: Message, network: Network, outputs: dict[str, Value], mean: str) -> dict[str, Any]:
    """How pictures are prepared, where `transform_param` in the prototxt or a mean picture tells it."""
    found = [m for each in description.messages("layer") for m in each.messages("transform_param")]
    told = [m for m in found if m.all("mean_value") or m.all("scale")]
    if told:
        stated: dict[str, Any] = {
            "mean": told[-1].numbers("mean_value"),
            "scale": told[-1].number("scale", 1.0),
            "why": "transform_param in the prototxt",
        }
    elif mean:
        picture = _named(mean, lambda: read_mean(memoryview(Path(mean).read_bytes())))
        if picture.ndim != 3 or not np.isfinite(picture).all():
            raise Refused(f"{Path(mean).name} is no mean picture: {list(picture.shape)}")
        colour = [float(number) for number in picture.mean((1, 2), dtype=np.float64)]
        stated = {"mean": colour, "scale": 1.0, "why": f"the mean colour of {Path(mean).name} beside it"}
    else:
        return {}
    if not np.isfinite(stated["scale"]) or stated["scale"] == 0:
        raise Refused(f"transform_param has the scale {stated['scale']}")
    for each in network.detections:
        settings = each.layer.settings.message("detection_output_param")
        stated |= {
            "kind": "detection",
            "score_threshold": max(settings.number("confidence_threshold", 0.0), LEAST_SCORE),
            "iou_threshold": settings.message("nms_param").number("nms_threshold", 0.3),
            "background": each.background,
        }
    shapes = [[side for side in value.shape[1:] if side != 1] for value in outputs.values()]
    if not network.detections and len(shapes) == 1 and len(shapes[0]) == 1:
        stated["kind"] = "classification"
    return stated if "kind" in stated else {}
