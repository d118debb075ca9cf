"""What a step is: parameters as data, a compiler to ONNX, and a reference in native code.

A step is written `{"resize": {"shorter": 256, "kernel": "pillow-bilinear"}}`: one key, its name, and
its parameters; `"grayscale"` alone and `{"center_crop": 224}` (the first parameter) are short for it.
`reference` is an independent eager implementation (Pillow, OpenCV, NumPy) and never the compiled graph:
golden cases are recorded with it, so that `verify` compares two things that can differ.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, get_args

import msgspec

from ..errors import UsageError, did_you_mean
from ..tensors import Array, Tensors

if TYPE_CHECKING:
    from .graph import Graph, Value

StepData = dict[str, dict[str, Any]]


class PreStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step between the decoded item and the network's input; it takes and gives one tensor.

    Images travel as [height, width, channels] until the `layout` step. Raise `UsageError` where a
    parameter makes no sense or the value cannot be taken (wrong rank, dtype, channel count).
    """

    name: ClassVar[str]

    def compile(self, graph: Graph, x: Value) -> Value:
        """Append this step's operators to `graph`; the result's shape has integers where static."""
        raise NotImplementedError

    def reference(self, x: Array) -> Array:
        """The same on an array, in native code."""
        raise NotImplementedError


class PostStep(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A step between the network's raw outputs and the answer; it takes and gives named tensors.

    The first axis of each tensor is the batch. `labels` are the bundle's class names, or empty.
    """

    name: ClassVar[str]

    def compile(self, graph: Graph, tensors: dict[str, Value], labels: Sequence[str]) -> dict[str, Value]:
        """Append this step's operators to `graph`."""
        raise NotImplementedError

    def reference(self, tensors: Tensors, labels: Sequence[str]) -> dict[str, Array]:
        """The same on arrays, in native code."""
        raise NotImplementedError


S = TypeVar("S", PreStep, PostStep)


def parse_steps(data: Sequence[Any], known: Mapping[str, type[S]], at: str) -> tuple[S, ...]:
    """Steps from their data form.

    Raises:
        UsageError: an unknown step or parameter, or a value of the wrong type; `at` plus an index says
            where, and the hint names the nearest spelling.
    """
    return tuple(_parse_step(item, known, f"{at}[{index}]") for index, item in enumerate(data))


def step_data(steps: Sequence[PreStep | PostStep]) -> list[StepData]:
    """The data form of steps, every parameter written out."""
    return [{step.name: msgspec.to_builtins(step)} for step in steps]


def _parse_step(item: Any, known: Mapping[str, type[S]], at: str) -> S:
    if isinstance(item, str):
        item = {item: {}}
    if not isinstance(item, dict) or len(item) != 1:
        raise UsageError('expected a step such as {"resize": {…}} with one key', at=at)
    name, parameters = next(iter(item.items()))
    if name not in known:
        raise UsageError(f"unknown step {name!r}", at=at, hint=did_you_mean(str(name), known))
    if not isinstance(parameters, dict):
        fields = msgspec.structs.fields(known[name])
        if not fields:
            raise UsageError(f"step {name!r} takes no parameters", at=at)
        parameters = {fields[0].encode_name: parameters}
    try:
        return msgspec.convert(parameters, known[name])
    except (msgspec.ValidationError, ValueError) as problem:
        hint = _choices(parameters, known[name])
        raise UsageError(f"step {name!r}: {problem}", at=at, hint=hint) from problem


def _choices(parameters: Mapping[str, Any], step: type[msgspec.Struct]) -> str | None:
    """What may be said, where a parameter takes one of a few words and was given another."""
    for field in msgspec.structs.fields(step):
        given = parameters.get(field.encode_name)
        words = [each for each in get_args(field.type) if isinstance(each, str)]
        if words and isinstance(given, str) and given not in words:
            return f"`{field.encode_name}` is one of {', '.join(words)}"
    return None
