"""Small networks for rows of numbers, whose right answers are known, and drawn data sets."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

import modelport
from modelport.bundle.store import Bundle

from ..boxes import LABELS, Box, pixels_with
from ..colours import picture


def pack_rows(folder: Path, kind: str, *, labels: list[str] | None = None) -> Bundle:
    """x float32[N, 2] -> what `kind` says, from s = a - b.

    `number`: s as float32[N, 1]. `share`: sigmoid(s). `scores`: [-s, s]. `words`: `yes` where s > 0, else
    `no`, and the scores.
    """
    nodes = [helper.make_node("MatMul", ["x", "weights"], ["s"])]
    outputs = [("s", TensorProto.FLOAT, 1)]
    if kind == "share":
        nodes.append(helper.make_node("Sigmoid", ["s"], ["share"]))
        outputs = [("share", TensorProto.FLOAT, 1)]
    if kind in ("scores", "words"):
        nodes.append(helper.make_node("Mul", ["s", "signs"], ["probabilities"]))
        outputs = [("probabilities", TensorProto.FLOAT, 2)]
    if kind == "words":
        nodes.append(helper.make_node("ArgMax", ["probabilities"], ["best"], axis=1, keepdims=0))
        nodes.append(helper.make_node("Gather", ["words", "best"], ["label"]))
        outputs = [("label", TensorProto.STRING, 0), *outputs]
    constants = [
        numpy_helper.from_array(np.array([[1], [-1]], np.float32), "weights"),
        numpy_helper.from_array(np.array([[-1, 1]], np.float32), "signs"),
        helper.make_tensor("words", TensorProto.STRING, [2], [b"no", b"yes"]),
    ]
    used = {name for node in nodes for name in node.input}
    graph = helper.make_graph(
        nodes,
        kind,
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["N", 2])],
        [helper.make_tensor_value_info(n, t, ["N", width] if width else ["N"]) for n, t, width in outputs],
        [constant for constant in constants if constant.name in used],
    )
    path = folder / f"{kind}.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), path)
    return modelport.pack(path, out=folder / "repo", name=kind, recipe="raw", labels=labels)


SCENES: dict[str, tuple[tuple[int, int], list[Box]]] = {
    "both": ((320, 240), [("red", 40, 30, 120, 90), ("blue", 180, 100, 300, 220)]),
    "tall": ((100, 200), [("green", 10, 12, 60, 90)]),
    "small": ((64, 64), [("blue", 8, 8, 40, 48)]),
    "none": ((90, 60), []),
}


def draw_boxes(root: Path) -> Path:
    """A YOLO data set of coloured rectangles; `tall` is stored lying on its side, with EXIF to turn it."""
    for folder in ("images", "labels"):
        (root / folder).mkdir(parents=True)
    for name, (size, boxes) in SCENES.items():
        image = Image.fromarray(pixels_with(boxes, size=size))
        exif = Image.Exif()
        if name == "tall":
            image = image.transpose(Image.Transpose.ROTATE_90)
            exif[0x0112] = 6
        file = io.BytesIO()
        image.save(file, "PNG", exif=exif)
        (root / "images" / f"{name}.png").write_bytes(file.getvalue())
        if boxes:
            lines = [yolo_line(box, size) for box in boxes]
            (root / "labels" / f"{name}.txt").write_text("\n".join(lines))
    (root / "data.yaml").write_text(f"path: .\nval: images\nnames: {LABELS[::-1]}\n")
    return root


def yolo_line(box: Box, size: tuple[int, int]) -> str:
    """A rectangle as a line of a label file; the data's classes stand in another order than the model's."""
    label, left, top, right, bottom = box
    shares = [
        (left + right) / 2 / size[0],
        (top + bottom) / 2 / size[1],
        (right - left) / size[0],
        (bottom - top) / size[1],
    ]
    return " ".join([str(LABELS[::-1].index(label)), *(f"{share:.6f}" for share in shares)])


def draw_colours(root: Path, *, wrong: bool = True) -> Path:
    """A folder for each colour; with `wrong`, a green picture among the blue ones."""
    for number, colour in enumerate(("Red", "green", "blue")):
        (root / colour).mkdir(parents=True)
        for size in (16, 24 + number):
            (root / colour / f"{size}.png").write_bytes(picture(colour.lower(), (size, size)))
    if wrong:
        (root / "blue" / "green.png").write_bytes(picture("green"))
    return root
