"""What a tensor is called, how it is shaped, and whether given arrays fit. Knows nothing of graphs.

Datatype names are NumPy's (`float32`, `uint8`, `bool`, …) plus `string`; the Open Inference Protocol's
(`FP32`, `UINT8`, `BOOL`, `BYTES`) are a table here because every transport needs it.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any

import msgspec
import numpy as np

from .errors import InputError, TooLarge

Tensors = Mapping[str, "np.ndarray[Any, Any]"]
Array = np.ndarray[Any, Any]

OIP_DATATYPES: dict[str, str] = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "string": "BYTES",
}
"""Datatype name here -> datatype name in the Open Inference Protocol v2."""

DTYPES_OF_OIP: dict[str, str] = {oip: name for name, oip in OIP_DATATYPES.items()}

DTYPES_OF_ONNX: dict[int, str] = {
    1: "float32",
    2: "uint8",
    3: "int8",
    4: "uint16",
    5: "int16",
    6: "int32",
    7: "int64",
    8: "string",
    9: "bool",
    10: "float16",
    11: "float64",
    12: "uint32",
    13: "uint64",
}
"""ONNX's number of a type (`TensorProto.DataType`) -> datatype name here."""


MAX_JSON_VALUES = 4 << 20
"""Values in one JSON text, by its commas: 27 pictures of 224 x 224 x 3, and 130 MB of Python's numbers."""
MAX_JSON_LISTS = 1 << 20
"""Lists and objects in one JSON text; each takes 60 to 100 bytes, and two of its own."""
_SMALL_JSON = 64 << 10
_MAX_RANK = 32


class TensorSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One named tensor. A string in `shape` is a named dimension of any size."""

    name: str
    dtype: str
    shape: tuple[int | str, ...]

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(str(d) for d in self.shape)}]"


class Signature(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The inputs and outputs of a graph, in order."""

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    def check_inputs(self, tensors: Tensors) -> dict[str, int]:
        """Refuse arrays that do not fit, and return the size of every named dimension.

        Raises:
            InputError: a missing or unknown name, a wrong dtype or shape, or one named dimension with
                two sizes; the message holds expected and actual, `at` the place.
        """
        known = {spec.name for spec in self.inputs}
        for name in tensors:
            if name not in known:
                raise InputError(
                    f"unexpected input {name!r}; expected {', '.join(sorted(known))}",
                    at=f"$.inputs.{name}",
                )
        sizes: dict[str, int] = {}
        for spec in self.inputs:
            if spec.name not in tensors:
                raise InputError(f"missing input {spec.name!r} ({spec})", at="$.inputs")
            check_tensor(spec, tensors[spec.name], sizes)
        return sizes


def check_tensor(spec: TensorSpec, array: Array, sizes: dict[str, int]) -> None:
    """Refuse `array` unless it fits `spec`; named dimensions are bound in `sizes`, across calls.

    Raises:
        InputError: dtype, rank or a dimension differs.
    """
    at = f"$.inputs.{spec.name}"
    got = f"{dtype_name(array)}[{', '.join(str(d) for d in array.shape)}]"
    if dtype_name(array) != spec.dtype or array.ndim != len(spec.shape):
        raise InputError(f"expected {spec}, got {got}", at=at, hint=_hint(spec, array))
    for axis, (want, have) in enumerate(zip(spec.shape, array.shape, strict=True)):
        if isinstance(want, str):
            if sizes.setdefault(want, have) != have:
                raise InputError(
                    f"dimension {want!r} is {sizes[want]} elsewhere and {have} here, in {got}",
                    at=at,
                )
        elif want != have:
            raise InputError(f"expected {spec}, got {got} (axis {axis})", at=at, hint=_hint(spec, array))


def dtype_name(array: Array) -> str:
    """`float32`, `uint8`, …, or `string` for any array of text, bytes or objects."""
    return "string" if array.dtype.kind in "OUS" else str(array.dtype.name)


def pack_text(array: Array) -> bytes:
    """Text as the Open Inference Protocol has it: each element behind its length as little-endian uint32."""
    # Labels repeat, above all the empty one behind a detector's last object.
    known: dict[str, bytes] = {}
    parts: list[bytes] = []
    for item in array.ravel().tolist():
        part = known.get(item) if type(item) is str else None
        if part is None:
            data = item if isinstance(item, bytes) else str(item).encode()
            part = struct.pack("<I", len(data)) + data
            if type(item) is str:
                known[item] = part
        parts.append(part)
    return b"".join(parts)


def numpy_dtype(name: str) -> np.dtype[Any]:
    """The NumPy dtype of a datatype name; text is an object array.

    Raises:
        InputError: an unknown name.
    """
    if name == "string":
        return np.dtype(object)
    if name not in OIP_DATATYPES:
        raise InputError(f"unknown datatype {name!r}; known: {', '.join(OIP_DATATYPES)}")
    return np.dtype(name)


def check_json(data: bytes | memoryview) -> None:
    """Refuse JSON that would take far more memory than its bytes: each value becomes an object of its own.

    Looks at bytes only (about 2 GB/s), so that it can come before decoding; those inside texts count too.

    Raises:
        TooLarge: more than `MAX_JSON_VALUES` values, or `MAX_JSON_LISTS` lists and objects.
    """
    if len(data) <= _SMALL_JSON:
        return
    data = bytes(data)
    if data.count(b"[") + data.count(b"{") > MAX_JSON_LISTS:
        raise TooLarge(f"JSON with more than {MAX_JSON_LISTS} lists", hint="send numbers flat, or in binary")
    if data.count(b",") > MAX_JSON_VALUES:
        raise TooLarge(f"JSON with more than {MAX_JSON_VALUES} values", hint="send tensors in binary")


def array_of_json(value: Any, dtype: str | None, *, at: str) -> Array:
    """A nested list as an array of datatype `dtype` (None: what NumPy makes of it); text as objects.

    Raises:
        InputError: ragged, null inside, or values that the datatype does not hold.
    """
    flat, shape = _flattened(value, at)
    kinds = set(map(type, flat))
    if list in kinds:
        raise InputError("not a rectangular array: a list stands where a value should", at=at)
    if bool in kinds and len(kinds) > 1:
        raise InputError(f"expected {dtype or 'one kind of'} values, got booleans among numbers", at=at)
    if str in kinds:
        if dtype not in (None, "string") or len(kinds) > 1:
            raise InputError(f"expected {dtype or 'one kind of'} values, got text", at=at)
        # NumPy's own text would give each string the room of the longest.
        return object_array(flat, shape)
    array = _numbers(flat, dtype, at).reshape(shape)
    if dtype is None and array.dtype.kind != "O":
        return array
    want = numpy_dtype(dtype or "float64")
    takes = {"f": "fiu", "i": "iu", "u": "iu", "b": "b", "O": "U"}[want.kind]
    if array.size and array.dtype.kind not in takes:
        raise InputError(f"expected {dtype or 'one kind of'} values, got {array.dtype.name}", at=at)
    if want.kind in "iu" and array.size:
        low, high = np.iinfo(want).min, np.iinfo(want).max
        if int(array.min()) < low or int(array.max()) > high:
            raise InputError(f"expected {dtype} ({low} to {high}), got {array.min()} to {array.max()}", at=at)
    with np.errstate(over="ignore"):
        return array.astype(want)


def _numbers(flat: list[Any], dtype: str | None, at: str) -> Array:
    """NumPy's array of numbers; of whole ones on both sides of 2**63 it would make floats by itself."""
    if dtype == "uint64" and flat and set(map(type, flat)) == {int}:
        if min(flat) < 0 or max(flat) >= 2**64:
            raise InputError(f"expected uint64 (0 to {2**64 - 1}), got {min(flat)} to {max(flat)}", at=at)
        return np.array(flat, np.uint64)
    return np.asarray(flat)


def _flattened(value: Any, at: str) -> tuple[list[Any], tuple[int, ...]]:
    """The values of a nested list in order, and its shape."""
    level: list[Any] = [value]
    shape: list[int] = []
    while level and type(level[0]) is list and len(shape) < _MAX_RANK:
        if set(map(type, level)) != {list} or len(set(map(len, level))) != 1:
            raise InputError("not a rectangular array: its lists differ in length or depth", at=at)
        shape.append(len(level[0]))
        level = list(chain.from_iterable(level))
    return level, tuple(shape)


def object_array(items: Sequence[Any], shape: Sequence[int]) -> Array:
    """An object array of `shape`; NumPy's own conversion would make fixed-width text of strings."""
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array.reshape(shape)


def _hint(spec: TensorSpec, array: Array) -> str | None:
    """The likely slip: channels last for first, or a forgotten batch axis."""
    want = spec.shape
    if array.ndim == len(want) - 1 and isinstance(want[0], str):
        return "add a batch axis: array[None]"
    if len(want) == 4 == array.ndim:
        moved = (array.shape[0], array.shape[3], array.shape[1], array.shape[2])
        if _fits(want, moved):
            return "the channels are last here and first there: array.transpose(0, 3, 1, 2)"
        moved = (array.shape[0], array.shape[2], array.shape[3], array.shape[1])
        if _fits(want, moved):
            return "the channels are first here and last there: array.transpose(0, 2, 3, 1)"
    if dtype_name(array) != spec.dtype and "string" not in (spec.dtype, dtype_name(array)):
        return f"convert it: array.astype('{spec.dtype}')"
    return None


def _fits(want: tuple[int | str, ...], have: tuple[int, ...]) -> bool:
    return all(isinstance(w, str) or w == h for w, h in zip(want, have, strict=True))


def readable(answer: Tensors) -> list[dict[str, Any]] | dict[str, Any]:
    """One item's answer for people and JSON.

    A classification (`scores` with `labels` or `indices`) becomes
    `[{"label": str, "score": float}]`, found objects (`boxes`, `scores`, `classes`, `count`)
    `[{"label": str, "class": int, "score": float, "box": [x1, y1, x2, y2]}]`, anything else
    `{name: nested list}`.
    """
    if is_detection(answer):
        return _found(answer)
    scores = answer.get("scores")
    names = answer.get("labels", answer.get("indices"))
    if scores is not None and names is not None and scores.ndim == 1 and scores.shape == names.shape:
        return [
            {"label": str(name), "score": float(score)}
            for name, score in zip(names.tolist(), scores.tolist(), strict=True)
        ]
    return {name: array.tolist() for name, array in answer.items()}


def is_detection(answer: Tensors) -> bool:
    """Whether one item's answer is of found objects: `boxes` [n, 4], `scores` [n], `classes` [n], `count`."""
    boxes, scores, classes, count = (answer.get(name) for name in ("boxes", "scores", "classes", "count"))
    if boxes is None or scores is None or classes is None or count is None:
        return False
    return count.ndim == 0 and scores.shape == classes.shape and boxes.shape == (*scores.shape, 4)


def _found(answer: Tensors) -> list[dict[str, Any]]:
    count = int(answer["count"])
    classes = answer["classes"][:count].tolist()
    labels = answer["labels"][:count].tolist() if "labels" in answer else [str(index) for index in classes]
    scores, boxes = answer["scores"][:count].tolist(), answer["boxes"][:count].tolist()
    return [
        {"label": str(label), "class": index, "score": score, "box": box}
        for label, index, score, box in zip(labels, classes, scores, boxes, strict=True)
    ]
