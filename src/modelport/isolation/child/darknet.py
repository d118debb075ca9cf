"""A Darknet network (`.cfg` and `.weights`) to ONNX, and to what OpenCV computes with it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from .converter import NotConverted, Refused
from .darknet_file import MAX_BYTES, Section, WeightFile, parse, written
from .darknet_heads import HEADS, Head, as_decoded, decoded, head_of, opencv_names
from .darknet_layers import LAYERS, Network
from .frames import Array
from .onnx_graph import OnnxGraph, Value
from .opencv_network import OpenCvNetwork

INPUT, OUTPUT = "data", "output"
MAX_SIDE = 8192
FORK = frozenset(
    {
        "mosaic",
        "cutmix",
        "scale_x_y",
        "iou_loss",
        "iou_normalizer",
        "cls_normalizer",
        "letter_box",
        "new_coords",
    }
    | {"iou_thresh", "beta_nms", "nms_kind", "max_delta", "mixup", "blur", "objectness_smooth"}
)
"""Settings of the fork that stretches pictures where the original keeps their proportions."""
T = TypeVar("T")


class Converter:
    """`open` converts; `run` has OpenCV compute."""

    def __init__(self) -> None:
        self._reference: OpenCvNetwork
        self._sides = (0, 0)
        self._heads: list[Head] = []

    def answer(
        self, fields: dict[str, Any], arrays: dict[str, Array]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """One request to its answer."""
        if fields["do"] == "open":
            about, made = self.open(Path(fields["cfg"]), Path(fields["weights"]), fields.get("inputs") or [])
            names = fields.get("names") or []
            fitting = len(names) == about["declared"]["classes"]
            return about | ({"labels": names} if fitting else {}), made
        return {}, self.run(arrays)

    def open(
        self, cfg: Path, weights: Path, inputs: list[dict[str, Any]]
    ) -> tuple[dict[str, Any], dict[str, Array]]:
        """Convert a pair of files.

        Raises:
            Refused, NotConverted: messages name the file, and the section with its line.
        """
        if cfg.stat().st_size > MAX_BYTES:
            raise Refused(f"{cfg.name} has {cfg.stat().st_size} bytes; no cfg has")
        settings, layers = _named(cfg, lambda: parse(cfg.read_text("utf-8", errors="replace")))
        settings = _resized(settings, inputs)
        data = weights.read_bytes()
        numbers = _named(weights, lambda: WeightFile.read(data))
        _named(cfg, lambda: _refuse_unknown(layers))
        graph = OnnxGraph()
        graph.reserve(INPUT, OUTPUT)
        channels = settings.integer("channels", 3, 1, 4096)
        height, width = (settings.integer(name, 416, 1, MAX_SIDE) for name in ("height", "width"))
        self._sides, self._heads = (height, width), []
        network = Network(graph, numbers, latest=Value(INPUT, (1, channels, *self._sides)))
        output = self._convert(network, layers)
        _named(weights, numbers.finish)
        shown = written([settings, *(_for_opencv(layer) for layer in layers)])
        self._reference = OpenCvNetwork(
            lambda cv2: cv2.dnn.readNetFromDarknet(
                np.frombuffer(shown.encode(), np.uint8), np.frombuffer(data, np.uint8)
            )
        )
        model = graph.model(
            {INPUT: Value(INPUT, (1, channels, *self._sides))}, {OUTPUT: output}, {"producer": "darknet"}
        )
        return {
            "framework": f"darknet (weights {numbers.version}), run by opencv {self._reference.version}",
            "kind": "darknet",
            "notes": [],
            "declared": self._declared(settings, layers, output),
        }, {"onnx": model}

    def run(self, arrays: dict[str, Array]) -> dict[str, Array]:
        """A batch, row by row."""
        batch = arrays[INPUT]
        return {OUTPUT: np.concatenate([self._row(batch[row : row + 1]) for row in range(len(batch))])}

    def _row(self, picture: Array) -> Array:
        if not self._heads:
            return self._reference.run({INPUT: picture}, [self._reference.last()])[0][0].reshape(1, -1)
        names = [name for head in self._heads for name in opencv_names(head)]
        found = [outputs[0] for outputs in self._reference.run({INPUT: picture}, names)]
        each = len(found) // len(self._heads)
        parts = [
            as_decoded(found[index * each : (index + 1) * each], head, self._sides)
            for index, head in enumerate(self._heads)
        ]
        return np.concatenate(parts, 2)

    def _convert(self, network: Network, layers: list[Section]) -> Value:
        """All layers; of a detector, the boxes of all its heads."""
        made: list[Value] = []
        for layer in layers:
            network.graph.place = f"{layer.kind}_{layer.index}"
            if layer.kind in HEADS:
                head = head_of(network, layer, self._sides)
                self._heads.append(head)
                made.append(decoded(network, head, self._sides))
            else:
                network.latest = LAYERS[layer.kind](network, layer)
            network.values.append(network.latest)
        network.graph.place = ""
        if not made:
            count = int(np.prod(network.latest.shape))
            return Value(network.graph.op("Flatten", network.latest.name, axis=1), (1, count))
        regions = [head for head in self._heads if head.section.kind == "region"]
        if len({head.classes for head in self._heads}) != 1 or (regions and len(made) > 1):
            raise NotConverted("the heads differ in their classes or their kind")
        if len(made) == 1:
            return made[0]
        boxes = sum(value.shape[2] for value in made)
        name = network.graph.op("Concat", *(value.name for value in made), axis=2)
        return Value(name, (1, made[0].shape[1], boxes))

    def _declared(self, settings: Section, layers: list[Section], output: Value) -> dict[str, Any]:
        """How Darknet prepares pictures for such a network."""
        height, width = self._sides
        fork = any(FORK & layer.settings.keys() for layer in (settings, *layers))
        return {
            "task": "detection" if self._heads else "classification",
            "height": height,
            "width": width,
            "classes": self._heads[0].classes if self._heads else output.shape[1],
            "letterbox": settings.flag("letter_box") if fork else True,
            "channels": settings.integer("channels", 3),
        }


def _named(path: Path, read: Callable[[], T]) -> T:
    try:
        return read()
    except (Refused, NotConverted) as problem:
        raise type(problem)(f"{path.name}: {problem}", problem.hint) from problem


def _resized(settings: Section, inputs: list[dict[str, Any]]) -> Section:
    """The network's settings with the height and width that the user wants."""
    for spec in inputs:
        shape = spec["shape"]
        if spec["name"] != INPUT or len(shape) != 4 or not all(isinstance(side, int) for side in shape[2:]):
            raise NotConverted(
                f"the input is {INPUT!r} with four sides, of which height and width are numbers",
                f"for example --input {INPUT}:float32[1,3,416,416]",
            )
        sides = {"height": str(shape[2]), "width": str(shape[3])}
        settings = replace(settings, settings=settings.settings | sides)
    return settings


def _for_opencv(layer: Section) -> Section:
    """The section as OpenCV is to read it: every box given out, none suppressed."""
    if layer.kind not in HEADS:
        return layer
    return replace(layer, settings=layer.settings | {"thresh": "0", "nms_threshold": "0"})


def _refuse_unknown(layers: list[Section]) -> None:
    unknown = [layer for layer in layers if layer.kind not in LAYERS and layer.kind not in HEADS]
    if not unknown:
        return
    shown = ", ".join(f"[{layer.kind}] in line {layer.line}" for layer in unknown[:20])
    more = f" and {len(unknown) - 20} more" if len(unknown) > 20 else ""
    raise NotConverted(
        f"sections that are not converted: {shown}{more}",
        f"converted are {', '.join(sorted([*LAYERS, *HEADS]))}",
    )
