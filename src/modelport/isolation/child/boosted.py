"""What the readers of XGBoost, LightGBM and CatBoost give, and the ONNX nodes made of it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .converter import NotConverted
from .onnx_writer import Block, Frame, Writer
from .sklearn_steps import codes
from .trees import Tree, rounded, tree_sum

FLOAT32 = "float32"


@dataclass
class Boosted:
    """Trees that are added up, and what is done to the sums."""

    trees: list[Tree]
    targets: list[int]
    """Which output each tree adds to."""
    start: list[float]
    """What each output begins with."""
    link: str
    """`none`, `sigmoid`, `softmax`, `exp`, `ova` (a sigmoid a class), `softplus` or `signed_square`."""
    classes: int = 0
    """How many; 0 for a regressor or ranker."""
    slope: float = 1.0
    """What a sum is multiplied by before the link."""
    precision: str = "float64"
    """In which the framework compares values with thresholds."""
    missing: float | None = None
    """A number that stands for a missing one, besides NaN."""
    categories: dict[int, list[Any]] = field(default_factory=dict)
    """Column -> the categories whose indices the trees know; others are missing."""
    takes_unseen: bool = True
    """Whether the framework takes a category that it has not seen."""


def boosted(writer: Writer, model: Boosted, frame: Frame) -> Block:
    """Scores [batch, classes] or values [batch, outputs], float64.

    Raises:
        NotConverted: a column of text where numbers are compared.
    """
    if model.categories or any(block.text for block in frame):
        singles = enumerate(writer.singles(frame))
        frame = [_coded(writer, block, model.categories.get(at)) for at, block in singles]
    block = writer.matrix(frame)
    if model.missing is not None:
        same = writer.op("Equal", block.name, writer.constant([[model.missing]]))
        block = block._replace(name=writer.op("Where", same, writer.constant(np.nan), block.name))
    rows = rounded(writer, block) if model.precision == FLOAT32 else block.name
    outputs = len(model.start)
    raw = writer.cast(tree_sum(writer, rows, model.trees, model.targets, outputs), "float64")
    raw = writer.op("Add", raw, writer.constant(np.asarray(model.start).reshape(1, -1)))
    if model.slope != 1.0:
        raw = writer.op("Mul", raw, writer.constant(model.slope))
    return _linked(writer, raw, model, outputs)


def _linked(writer: Writer, raw: str, model: Boosted, outputs: int) -> Block:
    if model.link == "softmax":
        return Block(writer.op("Softmax", raw, axis=1), False, outputs)
    if model.link in ("sigmoid", "ova"):
        second = writer.op("Sigmoid", raw)
        if outputs > 1 or not model.classes:
            return Block(second, False, outputs)
        first = writer.op("Sub", writer.constant(1.0), second)
        return Block(writer.op("Concat", first, second, axis=1), False, 2)
    functions = {"exp": "Exp", "softplus": "Softplus"}
    if model.link in functions:
        return Block(writer.op(functions[model.link], raw), False, outputs)
    if model.link == "signed_square":
        return Block(writer.op("Mul", writer.op("Sign", raw), writer.op("Mul", raw, raw)), False, outputs)
    if model.classes == 2 and outputs == 1:
        return Block(writer.op("Concat", writer.op("Neg", raw), raw, axis=1), False, 2)
    return Block(raw, False, outputs)


def _coded(writer: Writer, block: Block, categories: list[Any] | None) -> Block:
    """A column as the trees know it: numbers as they are, categories by index, an unknown one missing."""
    if categories is None:
        if block.text:
            raise NotConverted("a column of text where the model compares numbers")
        return block
    index = codes(writer, block, categories)
    known = writer.op("GreaterOrEqual", index, writer.constant([[0]], "int64"))
    number = writer.op("Where", known, writer.cast(index, "float64"), writer.constant(np.nan))
    return Block(number, False, 1)
