"""YOLO's heads in Darknet: [yolo] of YOLOv3 and later, [region] of YOLOv2.

Both are decoded to [1, 4 + classes, boxes]: center x, center y, width and height in pixels of the network's
picture, and each class's score, which is objectness times class as Darknet has it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from .darknet_file import Section
from .darknet_layers import Network
from .frames import Array
from .onnx_graph import Value

HEADS = ("yolo", "region")


@dataclass(frozen=True)
class Head:
    """One head's settings, checked against what it takes."""

    section: Section
    classes: int
    anchors: Array
    """Width and height in pixels: [anchors, 2]."""
    rows: int
    columns: int
    bare: bool
    """`new_coords`: nothing is left to be squashed; sides are squares and not powers."""
    stretch: float
    """`scale_x_y`: how far a centre may lie beyond its cell."""


def head_of(network: Network, section: Section, sides: tuple[int, int]) -> Head:
    """The head that a section describes; `sides` are the height and width of the network's picture.

    Raises:
        NotConverted: settings that are not converted. Refused: they do not fit what it takes.
    """
    channels, rows, columns = network.picture(section)
    region = section.kind == "region"
    classes = section.integer("classes", 20, 1, 1 << 16)
    count = section.integer("num", 1, 1, 1 << 10)
    anchors = np.array(section.numbers("anchors", []), np.float32)
    for name, usual in {"bias_match": None, "coords": 4, "softmax": None}.items():
        if usual is not None and section.number(name, usual) != usual:
            raise section.refuse(f"{name}={section.settings[name]}")
    if "tree" in section.settings or "map" in section.settings:
        raise section.refuse("a tree of classes")
    if section.number("track", 0) or section.number("embedding_layer", 0):
        raise section.refuse("it tracks")
    if region and not section.flag("softmax"):
        raise section.refuse("softmax=0")
    if len(anchors) != 2 * count or (anchors <= 0).any():
        raise section.wrong(f"{len(anchors)} numbers for {count} anchors")
    anchors = anchors.reshape(count, 2)
    mask = [int(index) for index in section.numbers("mask", list(range(count)))]
    if not all(0 <= index < count for index in mask):
        raise section.wrong(f"mask={section.settings['mask']} of {count} anchors")
    height, width = sides
    cell = np.array([width / columns, height / rows], np.float32)
    anchors = anchors * cell if region else anchors[mask]
    if channels != len(anchors) * (5 + classes):
        raise section.wrong(
            f"takes {channels} channels; {len(anchors)} anchors of {classes} classes need "
            f"{len(anchors) * (5 + classes)} (filters= of the layer above)"
        )
    bare = section.flag("new_coords")
    return Head(section, classes, anchors, rows, columns, bare, section.number("scale_x_y", 1.0))


def decoded(network: Network, head: Head, sides: tuple[int, int]) -> Value:
    """The boxes of a head; those of a place lie behind each other."""
    graph = network.graph
    count, width = len(head.anchors), 5 + head.classes
    apart = (1, count, width, head.rows, head.columns)
    name = graph.op("Reshape", network.latest.name, graph.integers(*apart))
    sizes = graph.integers(2, 2, 1, head.classes)
    centre, side, sure, kinds = graph.ops("Split", [name, sizes], 4, axis=2)
    squash = "Identity" if head.bare else "Sigmoid"
    centre, sure = graph.op(squash, centre), graph.op(squash, sure)
    if head.stretch != 1:
        centre = graph.op("Mul", centre, graph.weight(head.stretch))
        centre = graph.op("Add", centre, graph.weight(-0.5 * (head.stretch - 1)))
    y, x = np.mgrid[0 : head.rows, 0 : head.columns]
    cell = np.array([sides[1] / head.columns, sides[0] / head.rows]).reshape(1, 1, 2, 1, 1)
    centre = graph.op(
        "Mul", graph.op("Add", centre, graph.weight(np.stack([x, y])[None, None])), graph.weight(cell)
    )
    anchors = head.anchors.reshape(1, count, 2, 1, 1)
    if head.bare:
        double = graph.op("Add", side, side)
        side = graph.op("Mul", graph.op("Mul", double, double), graph.weight(anchors))
    else:
        side = graph.op("Mul", graph.op("Exp", side), graph.weight(anchors))
    if head.section.kind == "region":
        kinds = graph.op("Softmax", kinds, axis=2)
    elif not head.bare:
        kinds = graph.op("Sigmoid", kinds)
    scores = graph.op("Mul", kinds, sure)
    joined = graph.op("Concat", centre, side, scores, axis=2)
    turned = graph.op("Transpose", joined, perm=[0, 2, 3, 4, 1])
    shape = (1, 4 + head.classes, head.rows * head.columns * count)
    return Value(graph.op("Reshape", turned, graph.integers(*shape)), shape)


def opencv_names(head: Head) -> list[str]:
    """What OpenCV calls the layers whose outputs `as_decoded` takes."""
    index = head.section.index
    return ["detection_out", f"permute_{index}"] if head.section.kind == "region" else [f"yolo_{index}"]


def as_decoded(found: list[Array], head: Head, sides: tuple[int, int]) -> Array:
    """What OpenCV computes for a head, in the same form.

    It gives [boxes, 5 + classes] with shares of the picture. Of [region] it has suppressed some classes in
    there, so those are computed from what goes in.
    """
    width = 5 + head.classes
    made = found[0].reshape(-1, width)
    scores = made[:, 5:]
    if len(found) > 1:
        raw = found[1].reshape(-1, width)[:, 5:]
        powers = np.exp(raw - raw.max(1, keepdims=True))
        scores = powers / powers.sum(1, keepdims=True) * made[:, 4:5]
    scale = np.array([sides[1], sides[0]] * 2, np.float32)
    return np.asarray(np.concatenate([made[:, :4] * scale, scores], 1).T[None])
