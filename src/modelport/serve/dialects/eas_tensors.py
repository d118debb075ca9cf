"""PAI-EAS's request and reply messages, bytes to arrays and back. No HTTP, no models.

Three processors have each their own protobuf, and nothing in a request says which it is:

    tensorflow   PredictRequest {1 signature_name, 2 inputs {name: Array}, 3 output_filter [name]}
    torch        PredictRequest {1 inputs [Array], 2 output_filter [place], 3 map_inputs {name: Array}, 100 …}
    onnx         DataProto      {1 tensors [{1 name, 2 dims, 3 data_type, 5 raw_data}]}

It is told by what the bytes can be, torch first: an array is a message that starts with its datatype, and
neither a text nor a named tensor reads as one. Messages are read in place: packed numbers become arrays
without a copy.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Literal

import msgspec
import numpy as np

from ...errors import InputError, Unsupported
from ...tensors import DTYPES_OF_ONNX, Array, dtype_name, object_array
from .protobuf import (
    Budget,
    Field,
    Misfit,
    fields,
    packed_varints,
    text,
    varint,
    varints,
    write_field,
    write_varints,
)

MAX_RANK = 16
SIGNATURE = "serving_default"

_Code = tuple[str, int, str]
_ARRAYS: dict[int, _Code] = {
    # dtype -> NumPy's name, the field of its values, the name that signatures show
    1: ("float32", 3, "DT_FLOAT"),
    2: ("float64", 4, "DT_DOUBLE"),
    3: ("int32", 5, "DT_INT32"),
    4: ("uint8", 5, "DT_UINT8"),
    5: ("int16", 5, "DT_INT16"),
    6: ("int8", 5, "DT_INT8"),
    7: ("string", 6, "DT_STRING"),
    9: ("int64", 7, "DT_INT64"),
    10: ("bool", 8, "DT_BOOL"),
    17: ("uint16", 5, "DT_UINT16"),
}
_CODES = {name: (code, field) for code, (name, field, _) in _ARRAYS.items()}
_ONNX = {code: name for code, name in DTYPES_OF_ONNX.items() if name != "string"}
_ONNX_CODES = {name: code for code, name in _ONNX.items()}
DT_NAMES = {name: shown for name, _, shown in _ARRAYS.values()} | {
    "float16": "DT_HALF",
    "uint32": "DT_UINT32",
    "uint64": "DT_UINT64",
}
"""Datatype here -> what a signature calls it."""


class Asked(msgspec.Struct, frozen=True):
    """A request: arrays by name, or for torch by their place."""

    flavour: Literal["tensorflow", "torch", "onnx"]
    named: dict[str, Array] = {}
    placed: tuple[Array, ...] = ()
    wanted: tuple[str | int, ...] = ()
    """The outputs asked for, by name or place; none means all."""


class _Array(msgspec.Struct):
    """An ArrayProto as it was sent: its numbers are not looked at yet."""

    dtype: int = 0
    dims: list[int] = []
    values: list[tuple[int, Field]] = []


def parse(body: bytes) -> Asked | None:
    """A request of one of the three kinds; None for bytes that are none of them.

    Raises:
        InputError: it is one of them, and what it says cannot be: an unknown datatype, or values that do not
            fill the shape.
    """
    for read in (_torch, _onnx, _tensorflow):
        try:
            return read(memoryview(body), Budget())
        except Misfit:
            continue
    return None


def encode(asked: Asked, outputs: Mapping[str, Array]) -> bytes:
    """The reply to a request; `outputs` in the order of the network's signature.

    Raises:
        InputError: an output is asked for that there is not.
        Unsupported: an output of a datatype that the message cannot hold.
    """
    chosen = _chosen(asked.wanted, outputs)
    if asked.flavour == "onnx":
        return b"".join(write_field(1, _onnx_tensor(name, array)) for name, array in chosen.items())
    # PyTorch's message has no field for booleans, and its client reads none.
    written = {
        name: _write_array(array, bools=asked.flavour == "tensorflow") for name, array in chosen.items()
    }
    if asked.flavour == "torch" and not asked.named:
        return b"".join(write_field(1, each) for each in written.values())
    number = 2 if asked.flavour == "torch" else 1
    return b"".join(
        write_field(number, write_field(1, name.encode()) + write_field(2, each))
        for name, each in written.items()
    )


def _chosen(wanted: Sequence[str | int], outputs: Mapping[str, Array]) -> dict[str, Array]:
    names = list(outputs)
    for index, name in enumerate(wanted):
        if not (0 <= name < len(names) if isinstance(name, int) else name in outputs):
            raise InputError(
                f"unknown output {name!r}; known: {', '.join(names)}", at=f"$.output_filter[{index}]"
            )
    picked = [names[name] if isinstance(name, int) else name for name in wanted] or names
    return {name: outputs[name] for name in picked}


def _tensorflow(body: memoryview, budget: Budget) -> Asked:
    inputs: dict[str, _Array] = {}
    signature, wanted = "", []
    for field in fields(body, budget):
        match field:
            case (1, memoryview() as data):
                signature = text(data)
            case (2, memoryview() as data):
                name, array = _entry(data, budget)
                inputs[name] = array
            case (3, memoryview() as data):
                wanted.append(text(data))
            case _:
                raise Misfit
    if not inputs:
        raise Misfit
    if signature not in ("", SIGNATURE):
        raise InputError(f"unknown signature {signature!r}; known: {SIGNATURE}", at="$.signature_name")
    named = {name: _to_array(array, f"$.inputs.{name}") for name, array in inputs.items()}
    return Asked("tensorflow", named, (), tuple(wanted))


def _torch(body: memoryview, budget: Budget) -> Asked:
    placed: list[_Array] = []
    named: dict[str, _Array] = {}
    wanted: list[int] = []
    for field in fields(body, budget):
        match field:
            case (1, memoryview() as data):
                placed.append(_array(data, budget))
            case (2, value):
                wanted += varints(value, budget)
            case (3, memoryview() as data):
                name, named[name] = _entry(data, budget)
            case (100, int()):
                pass  # debug_level: there is nothing to tell
            case _:
                raise Misfit
    # An array without a datatype is as well an empty text: then it is another kind of request.
    if not any(array.dtype for array in (*placed, *named.values())):
        raise Misfit
    if placed and named:
        raise InputError("inputs by place and by name in one request", at="$.map_inputs")
    return Asked(
        "torch",
        {name: _to_array(array, f"$.map_inputs.{name}") for name, array in named.items()},
        tuple(_to_array(array, f"$.inputs[{place}]") for place, array in enumerate(placed)),
        tuple(wanted),
    )


def _onnx(body: memoryview, budget: Budget) -> Asked:
    found: dict[str, tuple[int, list[int], memoryview]] = {}
    for field in fields(body, budget):
        match field:
            case (1, memoryview() as data):
                name, dtype, dims, raw = _onnx_parts(data, budget)
                if name in found:
                    raise InputError(f"the tensor {name!r} stands twice", at="$.tensors")
                found[name] = (dtype, dims, raw)
            case _:
                raise Misfit
    if not any(dtype for dtype, _, _ in found.values()):
        raise Misfit
    return Asked("onnx", {name: _of_raw(*parts, f"$.tensors.{name}") for name, parts in found.items()})


def _onnx_parts(data: memoryview, budget: Budget) -> tuple[str, int, list[int], memoryview]:
    name, dtype, dims, raw = "", 0, [], memoryview(b"")
    for field in fields(data, budget):
        match field:
            case (1, memoryview() as value):
                name = text(value)
            case (2, value):
                dims += varints(value, budget)
            case (3, int() as value):
                dtype = value
            case (5, memoryview() as value):
                raw = value
            case _:
                raise Misfit
    return name, dtype, dims, raw


def _of_raw(dtype: int, dims: list[int], raw: memoryview, at: str) -> Array:
    if dtype not in _ONNX:
        raise InputError(f"unknown data_type {dtype}; known: {', '.join(map(str, _ONNX))}", at=at)
    kind = np.dtype(_ONNX[dtype]).newbyteorder("<")
    if len(raw) % kind.itemsize:
        raise InputError(f"raw_data is not whole numbers of {kind.itemsize} bytes", at=at)
    _check_count(dims, len(raw) // kind.itemsize, at)
    array = np.frombuffer(raw, np.uint8 if dtype == 9 else kind).reshape(dims)
    return array != 0 if dtype == 9 else array.astype(kind.newbyteorder("="), copy=False)


def _entry(data: memoryview, budget: Budget) -> tuple[str, _Array]:
    """One entry of a map from names to arrays."""
    name, array = "", _Array()
    for field in fields(data, budget):
        match field:
            case (1, memoryview() as value):
                name = text(value)
            case (2, memoryview() as value):
                array = _array(value, budget)
            case _:
                raise Misfit
    return name, array


def _array(data: memoryview, budget: Budget) -> _Array:
    array = _Array(0, [], [])
    for field in fields(data, budget):
        match field:
            case (1, int() as value):
                array.dtype = value
            case (2, memoryview() as value):
                for inner in fields(value, budget):
                    if inner[0] != 1:
                        raise Misfit
                    array.dims += varints(inner[1], budget)
            case (number, value) if 3 <= number <= 8:
                array.values.append((number, value))
            case _:
                raise Misfit
    return array


def _to_array(sent: _Array, at: str) -> Array:
    """The numbers of an ArrayProto, in its shape.

    Raises:
        InputError: a datatype that is not carried, values in another datatype's field, or too many or few.
    """
    if sent.dtype not in _ARRAYS:
        known = ", ".join(shown for _, _, shown in _ARRAYS.values())
        raise InputError(f"dtype {sent.dtype} is not read here; known: {known}", at=at)
    dtype, own, shown = _ARRAYS[sent.dtype]
    for number, _ in sent.values:
        if number != own:
            raise InputError(f"{shown} has its values in field {own}, and field {number} has some", at=at)
    parts = [value for _, value in sent.values]
    if dtype == "string":
        _check_count(sent.dims, len(parts), at)
        return object_array([_string(part, at) for part in parts], sent.dims)
    if own in (3, 4):
        return _floats(parts, dtype, sent.dims, at)
    numbers = [_integers(part, dtype, at) for part in parts]
    array = numbers[0] if len(numbers) == 1 else np.concatenate(numbers or [np.empty(0, dtype)])
    _check_count(sent.dims, array.size, at)
    return array.reshape(sent.dims)


def _floats(parts: list[Field], dtype: str, dims: list[int], at: str) -> Array:
    kind = np.dtype(dtype).newbyteorder("<")
    blobs = [part for part in parts if isinstance(part, memoryview)]
    if len(blobs) != len(parts) or any(len(blob) % kind.itemsize for blob in blobs):
        raise InputError(f"the values are not whole numbers of {kind.itemsize} bytes", at=at)
    data = blobs[0] if len(blobs) == 1 else b"".join(blobs)
    _check_count(dims, len(data) // kind.itemsize, at)
    return np.frombuffer(data, kind).reshape(dims).astype(dtype, copy=False)


def _integers(part: Field, dtype: str, at: str) -> Array:
    try:
        if isinstance(part, int):
            part = memoryview(varint(part))
        return packed_varints(part, np.dtype(dtype))
    except Misfit as problem:
        raise InputError("the values are not whole packed numbers", at=at) from problem
    except OverflowError as problem:
        raise InputError(f"a value is outside {dtype}: {problem}", at=at) from problem


def _string(part: Field, at: str) -> str:
    try:
        return text(part)
    except Misfit as problem:
        raise InputError("a text that is not UTF-8", at=at) from problem


def _check_count(dims: Sequence[int], count: int, at: str) -> None:
    """Python's integers do not overflow, so a hostile shape cannot wrap round to the right size."""
    if len(dims) > MAX_RANK or any(size < 0 for size in dims):
        raise InputError(f"{list(dims)[:MAX_RANK]} is not a shape", at=at)
    if prod(dims) != count:
        raise InputError(f"shape {list(dims)} has {prod(dims)} elements, got {count}", at=at)


def _write_array(array: Array, *, bools: bool) -> bytes:
    array = _carried(array, bools)
    name = dtype_name(array)
    code, number = _CODES[name]
    shape = write_field(1, write_varints(np.array(array.shape, np.int64)))
    head = b"\x08" + varint(code) + write_field(2, shape)
    if name == "string":
        return head + b"".join(write_field(number, str(item).encode()) for item in array.flat)
    if array.dtype.kind == "f":
        return head + write_field(
            number, np.ascontiguousarray(array, array.dtype.newbyteorder("<")).tobytes()
        )
    return head + write_field(number, write_varints(array.ravel().astype(np.int64)))


def _carried(array: Array, bools: bool) -> Array:
    """The array in a datatype that the message has, without loss.

    Raises:
        Unsupported: uint64 values that no signed number holds.
    """
    match array.dtype.name:
        case "float16":
            return array.astype(np.float32)
        case "uint32":
            return array.astype(np.int64)
        case "uint64":
            if array.size and int(array.max()) > np.iinfo(np.int64).max:
                raise Unsupported("an output holds numbers over 2^63, which this message cannot hold")
            return array.astype(np.int64)
        case "bool" if not bools:
            return array.astype(np.uint8)
        case _:
            return array


def _onnx_tensor(name: str, array: Array) -> bytes:
    if array.dtype.name not in _ONNX_CODES:
        raise Unsupported(f"the output {name!r} is text, which an ONNX reply cannot hold")
    little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
    return b"".join(
        [
            write_field(1, name.encode()),
            write_field(2, write_varints(np.array(array.shape, np.int64))),
            b"\x18" + varint(_ONNX_CODES[array.dtype.name]),
            write_field(5, little.tobytes()),
        ]
    )
