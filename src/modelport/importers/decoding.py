"""A detector's boxes are decoded where an object may be, and nowhere else.

As exported, a YOLOv5 decodes all of its 25 200 places in the network, of which a handful is over the
threshold: turning, joining and squashing 2.1 million numbers takes a fifth of its time. Here it is found out
whether a network ends so, by its numbers and not by its operators; then it may end in its last convolutions,
and `post` decodes what is over the threshold.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import numpy as np
import onnx

from ..runtimes.onnxruntime import OnnxRuntime
from ..runtimes.outputs import ending_in
from ..steps.grids import YoloV5Raw
from ..steps.heads import Head, YoloV5, YoloV8
from ..steps.step import PostStep
from ..tensors import Array, Tensors, TensorSpec

LEVELS = (2, 3, 4)
ITEMS = 2
"""Prepared items that the decoding is fitted to, and compared on."""
RELATIVE = 1e-4
PIXELS = 1e-2
SCORE = 1e-5
"""What decoding in float32 may differ by."""


class OtherDecoding(Exception):
    """The network does not end in a decoding that is known; the text says why."""


class Undecoded(msgspec.Struct, frozen=True):
    """How a network may end earlier."""

    outputs: tuple[TensorSpec, ...]
    """The values that it ends in; the first axis is the batch."""
    steps: tuple[PostStep, ...]
    """The steps that make the same answer of them."""


def undecoded(network: onnx.ModelProto, steps: Sequence[PostStep], items: Sequence[Tensors]) -> Undecoded:
    """The network's last convolutions, and the steps that decode what is over the threshold.

    Args:
        network: of one picture to boxes.
        steps: those of `post`.
        items: what the network takes, without the batch axis; a few pictures.

    Raises:
        OtherDecoding: it is no YOLOv5 or v7, or its boxes or scores are made in another way.
    """
    head = next((step for step in steps if isinstance(step, Head)), None)
    if not isinstance(head, YoloV5 | YoloV8) or head.extra:
        raise OtherDecoding("its answers are not decoded as YOLOv5's are")
    whole = _output(network, head.of)
    found = _last_convolutions(network, whole)
    if len(found) not in LEVELS:
        raise OtherDecoding(f"{len(found)} convolutions end in {whole!r}, not one for each level")
    raw, logits = _ran(network, whole, found, items[:ITEMS])
    objectness = isinstance(head, YoloV5)
    lines = raw if objectness else raw.transpose(0, 2, 1)
    levels = [_squashed(each, lines.shape[2] + (not objectness)) for each in logits.values()]
    size = _sides(next(iter(items[0].values())))
    anchors = _anchors(levels, lines, size)
    _compare(levels, anchors, lines, size, objectness=objectness)
    step = YoloV5Raw(
        size=size[0] if size[0] == size[1] else size,
        anchors=anchors,
        score_threshold=head.score_threshold,
        multi_label=head.multi_label,
    )
    outputs = tuple(TensorSpec(name, "float32", ("batch", *each.shape[1:])) for name, each in logits.items())
    return Undecoded(outputs, tuple(step if each is head else each for each in steps))


def _sides(prepared: Array) -> tuple[int, int]:
    """Height and width of a prepared picture, of either order of axes."""
    height, width = prepared.shape[1:3] if prepared.shape[0] == 3 else prepared.shape[:2]
    return height, width


def _output(network: onnx.ModelProto, of: str | None) -> str:
    """The output that the head reads."""
    outputs = [value.name for value in network.graph.output]
    if of is None and len(outputs) != 1:
        raise OtherDecoding("the network has other outputs beside the one that is decoded")
    return of or outputs[0]


def _last_convolutions(network: onnx.ModelProto, output: str) -> list[str]:
    """What the convolutions that an output is made of give, the last on every way to it."""
    makers = {name: node for node in network.graph.node for name in node.output}
    found: list[str] = []
    seen: set[str] = set()
    waiting = [output]
    while waiting:
        name = waiting.pop()
        if name in seen or name not in makers:
            continue
        seen.add(name)
        node = makers[name]
        if node.op_type == "Conv":
            found.append(name)
        else:
            waiting += node.input
    return found


def _ran(
    network: onnx.ModelProto, output: str, convolutions: Sequence[str], items: Sequence[Tensors]
) -> tuple[Array, dict[str, Array]]:
    """The output and the convolutions' on some items; the convolutions finest first."""
    session = OnnxRuntime().open(ending_in(network, (output, *convolutions)).SerializeToString())
    taken = {spec.name for spec in session.signature.inputs}
    try:
        batches = [{name: array[None] for name, array in item.items() if name in taken} for item in items]
        made = [session.run(batch) for batch in batches]
    finally:
        session.close()
    whole = {name: np.concatenate([each[name] for each in made]) for name in made[0]}
    if whole[output].ndim != 3 or any(whole[name].ndim != 4 for name in convolutions):
        raise OtherDecoding(f"{output!r} is not made of planes by convolutions")
    finest_first = sorted(convolutions, key=lambda name: -whole[name].shape[2])
    return whole[output], {name: whole[name] for name in finest_first}


def _squashed(logits: Array, numbers: int) -> Array:
    """Logits [batch, anchors * numbers, rows, columns] -> shares [batch, anchors, rows, columns, numbers]."""
    batch, planes, rows, columns = logits.shape
    if planes % numbers:
        raise OtherDecoding(f"a convolution gives {planes} planes, not {numbers} for each anchor")
    with np.errstate(over="ignore"):
        shares = 1 / (1 + np.exp(-logits.astype(np.float64)))
    turned: Array = shares.reshape(batch, -1, numbers, rows, columns).transpose(0, 1, 3, 4, 2)
    return turned


def _anchors(levels: Sequence[Array], lines: Array, size: Sequence[int]) -> tuple[tuple[float, ...], ...]:
    """Width and height of every level's anchors: what a place's sides are, over (2 x share) squared."""
    if sum(level[0, ..., 0].size for level in levels) != lines.shape[1]:
        raise OtherDecoding(f"its {lines.shape[1]} places are not the cells of its convolutions")
    found, start = [], 0
    for level in levels:
        batch, anchors, rows, columns, _ = level.shape
        if size[0] % rows or size[1] % columns or size[0] // rows != size[1] // columns:
            raise OtherDecoding(f"{rows} x {columns} cells do not divide {size[0]} x {size[1]} pixels")
        end = start + anchors * rows * columns
        sides = lines[:, start:end, 2:4].reshape(batch, anchors, rows, columns, 2)
        ratio = np.median(sides / (2 * level[..., 2:4]) ** 2, axis=(0, 2, 3))
        found.append(tuple(float(f"{number:.6g}") for number in ratio.ravel()))
        start = end
    return tuple(found)


def _compare(
    levels: Sequence[Array],
    anchors: Sequence[Sequence[float]],
    lines: Array,
    size: Sequence[int],
    *,
    objectness: bool,
) -> None:
    """Refuse a network that decodes its boxes in another way.

    Raises:
        OtherDecoding: boxes or scores differ.
    """
    decoded = []
    for level, known in zip(levels, anchors, strict=True):
        batch, count, rows, columns, _ = level.shape
        y, x = np.mgrid[0:rows, 0:columns]
        cells = np.stack([x, y], axis=-1) - 0.5
        middle = (level[..., :2] * 2 + cells) * (size[0] // rows)
        sides = (level[..., 2:4] * 2) ** 2 * np.reshape(known, (1, count, 1, 1, 2))
        scores = level[..., 4:] if objectness else level[..., 5:] * level[..., 4:5]
        whole = np.concatenate([middle, sides, scores], axis=-1)
        decoded.append(whole.reshape(batch, -1, whole.shape[-1]))
    want = np.concatenate(decoded, axis=1)
    if not np.allclose(lines[..., :4], want[..., :4], RELATIVE, PIXELS):
        raise OtherDecoding("its boxes are decoded in another way than YOLOv5's")
    if not np.allclose(lines[..., 4:], want[..., 4:], RELATIVE, SCORE):
        raise OtherDecoding("its scores are made in another way than YOLOv5's")
