"""A detector whose right answers are obvious: it finds the red, green and blue rectangle of a picture.

The network is YOLOv5's by its output, float32[N, 6, 5 + 3]: for each colour the rectangle around all that is
of it, and the same again a pixel off with a lower score, so that there is something to suppress. A score is
how pure the colour is: `strength` of `picture_with`, 0 to 0.9. Boxes are right to a pixel of the network's
picture.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

LABELS = ["red", "green", "blue"]
Box = tuple[str, int, int, int, int]
"""Label, and left, top, right, bottom in pixels."""

SCENE: list[Box] = [("red", 40, 30, 120, 90), ("blue", 180, 100, 300, 220), ("green", 20, 150, 80, 230)]
"""For a picture of 320 x 240."""


def write_detector(path: Path, *, size: int = 128, batch: int | str = "N") -> Path:
    """The network, in `path`: `images` float32[batch, 3, size, size], 0 to 1 -> `output0`."""
    weights = _weights(size)
    nodes: list[onnx.NodeProto] = []

    def op(kind: str, *inputs: str, out: str, **attributes: object) -> str:
        nodes.append(helper.make_node(kind, list(inputs), [out], **attributes))
        return out

    # How much of a channel is over both of the others: [N, 3, H, W].
    op("Gather", "images", "others", out="beside", axis=1)
    op("Reshape", "beside", "pairs", out="in_pairs")
    op("ReduceMax", "in_pairs", out="strongest", axes=[2], keepdims=0)
    op("Sub", "images", "strongest", out="pure")
    op("Cast", op("Greater", "pure", "faint", out="is_pure"), out="mask", to=TensorProto.FLOAT)
    op("ReduceMax", "pure", out="peak", axes=[2, 3], keepdims=0)
    op("Unsqueeze", op("Max", "peak", "none", out="score"), "last", out="objectness")
    ends = []
    for name, axis in (("x", 2), ("y", 3)):
        op("ReduceMax", "mask", out=f"line_{name}", axes=[axis], keepdims=0)
        ahead, behind = f"ahead_{name}", f"behind_{name}"
        op("ReduceMax", op("Mul", f"line_{name}", "onward", out=f"far_{name}"), out=ahead, axes=[2])
        op("ReduceMax", op("Mul", f"line_{name}", "back", out=f"near_{name}"), out=behind, axes=[2])
        ends.append((op("Sub", "side", behind, out=f"first_{name}"), ahead))
    middles, lengths = [], []
    for name, (first, end) in zip("xy", ends, strict=True):
        op("Add", first, end, out=f"sum_{name}")
        middles.append(op("Div", f"sum_{name}", "two", out=f"middle_{name}"))
        lengths.append(op("Sub", end, first, out=f"length_{name}"))
    op("Concat", *middles, *lengths, out="box", axis=2)
    op("Add", op("Mul", "objectness", "none", out="nothing"), "kinds", out="kind")
    op("Concat", "box", "objectness", "kind", out="right", axis=2)
    op("Add", "box", "off", out="moved")
    op("Mul", "objectness", "less", out="doubt")
    op("Concat", "moved", "doubt", "kind", out="wrong", axis=2)
    op("Concat", "right", "wrong", out="output0", axis=1)
    graph = helper.make_graph(
        nodes,
        "boxes",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [batch, 3, size, size])],
        [helper.make_tensor_value_info("output0", TensorProto.FLOAT, [batch, 6, 8])],
        [numpy_helper.from_array(array, name) for name, array in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    # As YOLOv5's export has it; with the names, the output's 5 + 3 numbers tell what they are.
    helper.set_model_props(model, {"stride": "32", "names": str(dict(enumerate(LABELS)))})
    onnx.checker.check_model(model)
    onnx.save(model, path)
    return path


def _weights(size: int) -> dict[str, np.ndarray]:
    return {
        "faint": np.array(0.2, np.float32),
        "two": np.array(2.0, np.float32),
        "less": np.array(0.9, np.float32),
        "onward": np.arange(1, size + 1, dtype=np.float32),
        "back": np.arange(size, 0, -1).astype(np.float32),
        "side": np.array(size, np.float32),
        "last": np.array([-1], np.int64),
        "others": np.array([1, 2, 0, 2, 0, 1], np.int64),
        "pairs": np.array([0, 3, 2, size, size], np.int64),
        "off": np.array([1, 1, 0, 0], np.float32),
        "kinds": np.eye(3, dtype=np.float32)[None],
        "none": np.array(0, np.float32),
    }


def picture_with(
    boxes: Sequence[Box],
    *,
    size: tuple[int, int] = (320, 240),
    strength: float = 0.8,
    kind: str = "PNG",
) -> bytes:
    """An encoded picture of `size` (width, height) with coloured rectangles on grey."""
    file = io.BytesIO()
    Image.fromarray(pixels_with(boxes, size=size, strength=strength)).save(file, kind)
    return file.getvalue()


def pixels_with(
    boxes: Sequence[Box], *, size: tuple[int, int] = (320, 240), strength: float = 0.8
) -> np.ndarray:
    """The same as uint8[height, width, 3]."""
    width, height = size
    pixels = np.full((height, width, 3), 90, np.uint8)
    for label, left, top, right, bottom in boxes:
        colour = np.full(3, 20, np.uint8)
        colour[LABELS.index(label)] = round(20 + 255 * strength)
        pixels[top:bottom, left:right] = colour
    return pixels


def pack_boxes(folder: Path, *, name: str = "boxes", version: str = "1", size: int = 128) -> Path:
    """Pack it into `folder`/repo with golden pictures, and return the repository."""
    import modelport

    photos = folder / "photos"
    photos.mkdir(exist_ok=True)
    (photos / "scene.png").write_bytes(picture_with(SCENE))
    (photos / "one.png").write_bytes(picture_with([("green", 10, 12, 60, 90)], size=(100, 140)))
    (photos / "none.png").write_bytes(picture_with([], size=(64, 64)))
    modelport.pack(
        write_detector(folder / "boxes.onnx", size=size),
        out=folder / "repo",
        name=name,
        version=version,
        recipe="yolov5",
        labels=LABELS,
        golden=photos,
    )
    return folder / "repo"
