"""What an MXNet network takes: the user says it, or the symbol, or the weights settle it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .converter import Unclear
from .mxnet_export import BATCH, Shape, onnx_name
from .mxnet_rewrite import indices_of

SIDES = (224, 112, 299, 512, 64, 32, 48, 24, 16, 12, 8, 4, 2, 1)
"""Sizes tried for dimensions that have a name only."""
LARGEST_SIDE = 640


class Sizes:
    """Of one network with its weights."""

    def __init__(self, mx: Any, symbol: Any, weights: Mapping[str, Any], names: tuple[str, str]) -> None:
        self.error: type[Exception] = mx.base.MXNetError
        self.symbol, self.names = symbol, names
        self.known = {name: array.shape for name, array in weights.items()}
        self.notes: list[str] = []

    def inputs(
        self, free: list[str], described: dict[str, Any], said: list[dict[str, Any]]
    ) -> dict[str, tuple[Shape, str]]:
        """Name -> shape and dtype, in the network's order.

        Raises:
            Unclear: something is left open, or what is said does not fit.
        """
        told = {each["name"]: (tuple(each["shape"]), str(each["dtype"])) for each in said}
        if unknown := sorted(set(told) - set(free)):
            raise Unclear(f"the network has no input {unknown[0]!r}; it takes {', '.join(free)}")
        attributes = self.symbol.attr_dict()
        looked_up = dict.fromkeys(indices_of(described), "int64")
        found: dict[str, tuple[Shape, str]] = {}
        for name in free:
            shape = told[name][0] if name in told else _stated(attributes.get(name, {}))
            if shape is None:
                shape = self._settled(name, free, described)
            if name not in told and name in looked_up:
                self.notes.append(f"{name} takes whole numbers (int64): they are looked up in an Embedding")
            found[name] = (shape, told[name][1] if name in told else looked_up.get(name, "float32"))
        return found

    def outputs(
        self, inputs: Mapping[str, tuple[Shape, str]]
    ) -> tuple[dict[str, tuple[int, ...]], dict[str, Shape]]:
        """Sizes that the network takes for its inputs, and the shape of each output, open where it moves.

        Raises:
            Unclear: the network does not take inputs of these shapes.
        """
        shapes = {name: shape for name, (shape, _) in inputs.items()}
        problem = ""
        for side in SIDES:
            try:
                sizes = {name: _filled(shape, side, 1) for name, shape in shapes.items()}
                first = self._infer(sizes)
                second = self._infer({name: _filled(shape, side, 3) for name, shape in shapes.items()})
            except self.error as raised:
                problem = problem or reason(raised)
                continue
            moving = any(isinstance(size, str) for shape in shapes.values() for size in shape[1:])
            return sizes, {name: _open(name, first[name], second[name], moving) for name in first}
        given = ", ".join(
            f"{name}[{', '.join(str(size) for size in shape)}]" for name, shape in shapes.items()
        )
        raise Unclear(
            f"{self.names[0]} with {self.names[1]} does not take {given}: {problem}", _how([*shapes])
        )

    def ranks(self, described: dict[str, Any], sizes: Mapping[str, tuple[int, ...]]) -> dict[str, int]:
        """PReLU's slopes -> the number of axes of what they multiply."""
        nodes = described["nodes"]
        inner = self.symbol.get_internals()
        _, shapes, _ = inner.infer_shape_partial(**{**self.known, **sizes})
        known = dict(zip(inner.list_outputs(), shapes, strict=True))
        found = {}
        for node in nodes:
            if node["op"] == "LeakyReLU" and node["attrs"].get("act_type") == "prelu":
                data, slope = (nodes[each[0]] for each in node["inputs"][:2])
                shape = known.get(data["name"] if data["op"] == "null" else f"{data['name']}_output", ())
                found[slope["name"]] = len(shape)
        return found

    def _infer(self, sizes: Mapping[str, tuple[int, ...]]) -> dict[str, tuple[int, ...]]:
        _, shapes, _ = self.symbol.infer_shape(**{**self.known, **sizes})
        if shapes is None:
            raise self.error("the shapes do not settle the network's")
        return dict(zip(self.symbol.list_outputs(), shapes, strict=True))

    def _settled(self, name: str, free: list[str], described: dict[str, Any]) -> Shape:
        """The shape that the weights settle, where they do.

        Raises:
            Unclear: they do not.
        """
        if len(free) > 1:
            others = ", ".join(each for each in free if each != name)
            raise Unclear(
                f"the symbol does not say the shape of its input {name!r}; it takes {others} as well",
                _how(free),
            )
        kind, channels = _first_layer(described, self.known)
        if kind == "FullyConnected" and self._fits({name: (1, channels)}):
            self.notes.append(f"{name} takes {channels} numbers a row, by the shape of the first weights")
            return (BATCH, channels)
        if kind != "Convolution":
            raise Unclear(f"the symbol does not say the shape of its input {name!r}", _how(free))
        sides = [side for side in range(1, LARGEST_SIDE + 1) if self._fits({name: (1, channels, side, side)})]
        if len(sides) == 1:
            self.notes.append(f"{name} takes {sides[0]} by {sides[0]} pixels: the weights fit no others")
            return (BATCH, channels, sides[0], sides[0])
        side = _roundest(sides)
        fit = f"; its weights fit squares of {sides[0]} to {sides[-1]} pixels" if sides else ""
        raise Unclear(
            f"the symbol does not say the size of its input {name!r}"
            + (fit if sides[-1:] != [LARGEST_SIDE] else "; its weights fit any"),
            f"--input '{name}:float32[{BATCH},{channels},{side},{side}]'",
        )

    def _fits(self, sizes: Mapping[str, tuple[int, ...]]) -> bool:
        try:
            self._infer(sizes)
        except self.error:
            return False
        return True


def reason(problem: BaseException) -> str:
    """What an MXNetError says, without the calls in C++ that led to it."""
    lines = [line.strip() for line in str(problem).splitlines() if line.strip()]
    said = next((line for line in lines if "Error:" in line), lines[-1] if lines else type(problem).__name__)
    return said.partition("Check failed: ")[2] or said.removeprefix("MXNetError: ")


def _stated(attributes: Mapping[str, str]) -> Shape | None:
    """The shape that a variable's attributes state whole, its first axis aside."""
    try:
        shape = [int(part) for part in attributes["__shape__"].strip("()[] ").split(",") if part.strip()]
    except (KeyError, ValueError):
        return None
    return (BATCH, *shape[1:]) if shape and all(size > 0 for size in shape[1:]) else None


def _first_layer(described: dict[str, Any], known: Mapping[str, Sequence[int]]) -> tuple[str, int]:
    """The first operator with weights, and how many channels or numbers it takes."""
    for node in described["nodes"]:
        if node["op"] in ("Convolution", "FullyConnected"):
            shape = known.get(described["nodes"][node["inputs"][1][0]]["name"], (0, 0))
            return node["op"], int(shape[1]) * int(node["attrs"].get("num_group", 1))
    return "", 0


def _filled(shape: Shape, side: int, batch: int) -> tuple[int, ...]:
    """A shape with sizes for its names: the batch's, and one for all others."""
    first = (batch if isinstance(shape[0], str) else shape[0],) if shape else ()
    return (*first, *(size if isinstance(size, int) else side for size in shape[1:]))


def _open(name: str, one: Sequence[int], three: Sequence[int], moving: bool) -> Shape:
    """An output's shape from what it is for one row and for three; `moving`: inputs have open sizes."""
    shape: list[int | str] = []
    for axis, (a, b) in enumerate(zip(one, three, strict=True)):
        if a != b and axis == 0:
            shape.append(BATCH)
        else:
            shape.append(f"{onnx_name(name)}.{axis}" if a != b or (moving and axis > 1) else a)
    return tuple(shape)


def _how(names: Sequence[str]) -> str:
    return " ".join(f"--input '{name}:float32[{BATCH},…]'" for name in names)


def _roundest(sides: Sequence[int]) -> int:
    """The size that halves most often: the likeliest of those that fit."""
    fitting = [(side & -side, side) for side in sides if side <= 512]
    return max(fitting)[1] if fitting and len(sides) < LARGEST_SIDE // 2 else 224
