"""The Open Inference Protocol v2 on the wire: bytes to tensors and back. No HTTP, no models.

JSON and the binary tensor extension, as Triton and KServe speak them: with the header
`Inference-Header-Content-Length: N` the first N bytes of a body are JSON and the rest holds the tensors
whose `parameters.binary_data_size` says how many bytes are theirs, in order, little-endian, row-major;
BYTES elements are each preceded by their length as uint32.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from math import inf, prod
from typing import Any

import msgspec
import numpy as np

from ..errors import InputError, Unsupported
from ..tensors import (
    DTYPES_OF_OIP,
    OIP_DATATYPES,
    Array,
    Signature,
    TensorSpec,
    array_of_json,
    check_json,
    dtype_name,
    numpy_dtype,
    object_array,
    pack_text,
)
from .base64_text import decode_base64

MAX_RANK = 16
_REGION = "shared_memory_region"
_UNUSUAL = frozenset(["classification", _REGION])


class _Input(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] = {}
    data: Any = None


class RequestedOutput(msgspec.Struct):
    """An output that the caller names, and how it wants it."""

    name: str
    parameters: dict[str, Any] = {}


class _Request(msgspec.Struct):
    inputs: list[_Input]
    id: str | None = None
    parameters: dict[str, Any] = {}
    outputs: list[RequestedOutput] | None = None


class InferRequest(msgspec.Struct, frozen=True):
    """A parsed inference request: arrays by name; BYTES are object arrays of `bytes`."""

    inputs: dict[str, Array]
    id: str | None
    outputs: tuple[RequestedOutput, ...] | None
    binary: bool
    """Whether outputs that do not say otherwise are sent in binary."""
    timeout: float | None
    """How long the caller would wait, in seconds, or None."""
    parameters: dict[str, Any] = {}
    """All that the request says beside tensors; the bundle's options are among them."""


def parse_request(body: bytes, header_length: str | None = None) -> InferRequest:
    """Parse a body; `header_length` is the value of `Inference-Header-Content-Length`, if sent.

    Raises:
        InputError: anything malformed, with the JSON path; sizes are judged before memory is taken.
        Unsupported: a tensor in shared memory.
    """
    if not body:
        raise InputError("the body is empty", hint='send {"inputs": […]}; GET the model\'s path names them')
    view = memoryview(body)
    end = len(body) if header_length is None else _header_end(header_length, len(body))
    check_json(view[:end])
    try:
        request = msgspec.json.decode(view[:end], type=_Request)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(f"the request is not a valid inference request: {problem}") from problem
    inputs: dict[str, Array] = {}
    for index, entry in enumerate(request.inputs):
        at = f"$.inputs[{index}]"
        if entry.name in inputs:
            raise InputError(f"input {entry.name!r} is given twice", at=at)
        check_region(entry.parameters, at)
        inputs[entry.name], end = _tensor(entry, view, end, at)
    if end != len(body):
        raise InputError(f"{len(body) - end} bytes are left over after the last tensor")
    for index, output in enumerate(request.outputs or ()):
        check_region(output.parameters, f"$.outputs[{index}]")
    names = [output.name for output in request.outputs or ()]
    if len(set(names)) != len(names):
        raise InputError("an output is asked for twice", at="$.outputs")
    return InferRequest(
        inputs,
        request.id,
        tuple(request.outputs) if request.outputs is not None else None,
        bool(request.parameters.get("binary_data_output", False)),
        timeout_of(request.parameters.get("timeout")),
        request.parameters,
    )


class BinaryHead(msgspec.Struct, frozen=True):
    """A request whose tensors all follow in binary, and whose outputs are all wanted so."""

    inputs: tuple[tuple[TensorSpec, tuple[int, ...]], ...]
    """What each is, in the order of the request, and the shape of one row."""
    sizes: tuple[int, ...]
    """Bytes of each."""
    rows: int
    outputs: tuple[str, ...]
    """Those that are wanted; none means all."""
    identity: str
    timeout: float | None
    answer_size: float
    """Bytes of the outputs that are wanted; infinity where the signature does not tell."""


def parse_binary_head(text: bytes, signature: Signature) -> BinaryHead | None:
    """The JSON of a plain binary request that fits `signature`; None for everything else.

    None says no more than that: `parse_request` and the model find out what is wrong, if anything is.
    """
    try:
        request = msgspec.json.decode(text, type=_Request)
        timeout = timeout_of(request.parameters.get("timeout"))
        shapes = {entry.name: tuple(entry.shape) for entry in request.inputs}
        arrays = {
            entry.name: np.broadcast_to(np.empty((), DTYPES_OF_OIP[entry.datatype]), entry.shape)
            for entry in request.inputs
            if entry.datatype not in ("BYTES", "BOOL") and entry.data is None and len(entry.shape) > 0
        }
        dimensions = signature.check_inputs(arrays)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, InputError, KeyError, ValueError):
        return None
    sizes = tuple(entry.parameters.get("binary_data_size") for entry in request.inputs)
    counts = {shape[0] for shape in shapes.values()}
    wanted = request.outputs or []
    everywhere = request.parameters.get("binary_data_output", False)
    names = [output.name for output in wanted]
    known = {spec.name: spec.dtype for spec in signature.outputs}
    parameters = [each.parameters for each in request.inputs] + [each.parameters for each in wanted]
    asked = [spec for spec in signature.outputs if not names or spec.name in names]
    plain = (
        len(arrays) == len(request.inputs)
        and sizes == tuple(arrays[entry.name].nbytes for entry in request.inputs)
        and len(counts) == 1
        and min(counts) > 0
        and len(set(names)) == len(names)
        and set(names) <= set(known)
        and "string" not in known.values()
        and all(output.parameters.get("binary_data", everywhere) is True for output in wanted)
        and not any(_UNUSUAL & given.keys() for given in parameters)
        and (bool(wanted) or everywhere is True)
    )
    if not plain:
        return None
    specs = {spec.name: spec for spec in signature.inputs}
    return BinaryHead(
        tuple((specs[entry.name], shapes[entry.name][1:]) for entry in request.inputs),
        tuple(int(size) for size in sizes if size is not None),
        counts.pop(),
        tuple(names),
        request.id or "",
        timeout,
        sum(_size(spec, dimensions) for spec in asked),
    )


def _size(spec: TensorSpec, dimensions: Mapping[str, int]) -> float:
    """Bytes of a tensor of numbers; infinity where it has a dimension that is not known."""
    shape = [dimensions.get(size, inf) if isinstance(size, str) else size for size in spec.shape]
    return prod(shape) * numpy_dtype(spec.dtype).itemsize


def raw_request(body: bytes, specs: Sequence[TensorSpec]) -> InferRequest:
    """A request whose header length is 0: the body is the one input's bytes, a batch of one.

    Raises:
        InputError: the model has several inputs or a free dimension besides the batch, or the body has
            another size.
    """
    if len(specs) != 1 or any(isinstance(size, str) for size in specs[0].shape[1:]):
        raise InputError("a raw binary request needs a model with one input of known shape")
    spec = specs[0]
    if spec.dtype == "string":
        array = object_array([bytes(body)], [1])
    else:
        array = tensor_of_bytes(memoryview(body), spec.dtype, [1, *(int(d) for d in spec.shape[1:])], "$")
    return InferRequest({spec.name: array}, None, None, True, None)


def encode_response(
    outputs: Mapping[str, Array],
    request: InferRequest,
    *,
    model: str,
    version: str,
    labels: Sequence[str] = (),
) -> tuple[bytes, int | None]:
    """The body, and the length of its JSON part if tensors follow it in binary (else None).

    Raises:
        InputError: an output is asked for that there is not, or `classification` of something that is
            not a batch of numbers.
    """
    wanted = request.outputs or tuple(RequestedOutput(name) for name in outputs)
    entries: list[dict[str, Any]] = []
    blobs: list[bytes] = []
    for index, output in enumerate(wanted):
        if output.name not in outputs:
            known = ", ".join(outputs)
            raise InputError(f"unknown output {output.name!r}; known: {known}", at=f"$.outputs[{index}]")
        array = outputs[output.name]
        if top := output.parameters.get("classification"):
            array = classified(array, top, labels, f"$.outputs[{index}]")
        entry: dict[str, Any] = {
            "name": output.name,
            "datatype": OIP_DATATYPES[dtype_name(array)],
            "shape": list(array.shape),
        }
        if output.parameters.get("binary_data", request.binary):
            blobs.append(bytes_of_tensor(array))
            entry["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            entry["data"] = _to_list(array)
        entries.append(entry)
    head: dict[str, Any] = {"id": request.id} if request.id else {}
    head |= {"model_name": model, "model_version": version, "outputs": entries}
    text = msgspec.json.encode(head)
    return b"".join([text, *blobs]), len(text) if blobs else None


def metadata(specs: Sequence[TensorSpec]) -> list[dict[str, Any]]:
    """Tensor specs as the protocol's metadata; free dimensions are -1."""
    return [
        {
            "name": spec.name,
            "datatype": OIP_DATATYPES[spec.dtype],
            "shape": [-1 if isinstance(size, str) else size for size in spec.shape],
        }
        for spec in specs
    ]


def _header_end(header_length: str, total: int) -> int:
    if not header_length.isascii() or not header_length.isdigit() or int(header_length[:12]) > total:
        raise InputError(f"Inference-Header-Content-Length is {header_length[:20]!r}; expected 0 to {total}")
    return int(header_length)


def timeout_of(value: Any) -> float | None:
    """Triton's `timeout` parameter is in microseconds."""
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InputError("timeout is a number of microseconds", at="$.parameters.timeout")
    return value / 1e6 if value else None


def no_shared_memory(hint: str, at: str = "") -> Unsupported:
    """The refusal of shared memory: a caller does not choose what this process maps.

    Args:
        at: the tensor that should lie there. It is in the message, which is all that is told of a 501.
    """
    return Unsupported("shared memory is not supported" + (f", at `{at}`" if at else ""), hint=hint)


def check_region(parameters: Mapping[str, Any], at: str) -> None:
    """Refuse a tensor that should be read from shared memory, or written there.

    Args:
        parameters: the tensor's; their values do not matter.

    Raises:
        Unsupported: it should.
    """
    if _REGION in parameters:
        raise no_shared_memory("send the tensor's bytes", at)


def _tensor(entry: _Input, view: memoryview, start: int, at: str) -> tuple[Array, int]:
    """One input's array, and where the next binary tensor starts."""
    dtype = DTYPES_OF_OIP.get(entry.datatype)
    if dtype is None:
        known = ", ".join(DTYPES_OF_OIP)
        raise InputError(f"unknown datatype {entry.datatype!r}; known: {known}", at=f"{at}.datatype")
    if len(entry.shape) > MAX_RANK or any(size < 0 for size in entry.shape):
        raise InputError(f"shape {entry.shape} is not a shape", at=f"{at}.shape")
    size = entry.parameters.get("binary_data_size")
    if size is None:
        if entry.data is None:
            raise InputError("neither `data` nor `parameters.binary_data_size`", at=at)
        encoded = entry.parameters.get("content_type") == "base64"
        return _from_list(entry.data, dtype, entry.shape, f"{at}.data", base64=encoded), start
    if entry.data is not None:
        raise InputError("both `data` and `parameters.binary_data_size`", at=at)
    if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(view) - start:
        raise InputError(
            f"binary_data_size is {size!r} and {len(view) - start} bytes are left", at=f"{at}.parameters"
        )
    return tensor_of_bytes(view[start : start + size], dtype, entry.shape, at), start + size


def tensor_of_bytes(data: memoryview, dtype: str, shape: Sequence[int], at: str) -> Array:
    if dtype == "string":
        return _unpack_strings(data, shape, at)
    kind = numpy_dtype(dtype).newbyteorder("<")
    # Python integers do not overflow, so a hostile shape cannot wrap round to the right size.
    if prod(shape) * kind.itemsize != len(data):
        raise InputError(
            f"{dtype}{list(shape)} takes {prod(shape) * kind.itemsize} bytes, got {len(data)}", at=at
        )
    array = np.frombuffer(data, dtype=kind).reshape(shape)
    if dtype == "bool":
        return np.asarray(array.view(np.uint8) != 0)
    return array.astype(numpy_dtype(dtype), copy=False)


def _unpack_strings(data: memoryview, shape: Sequence[int], at: str) -> Array:
    strings: list[bytes] = []
    place = 0
    while place < len(data):
        if place + 4 > len(data):
            raise InputError("a BYTES tensor ends inside a length", at=at)
        (size,) = struct.unpack_from("<I", data, place)
        place += 4
        if size > len(data) - place:
            raise InputError(f"a BYTES element says {size} bytes and {len(data) - place} are left", at=at)
        strings.append(bytes(data[place : place + size]))
        place += size
    if len(strings) != prod(shape):
        raise InputError(f"shape {list(shape)} has {prod(shape)} elements, got {len(strings)}", at=at)
    return object_array(strings, shape)


def _from_list(data: Any, dtype: str, shape: Sequence[int], at: str, *, base64: bool) -> Array:
    """JSON numbers or strings, nested or flat; `base64` is of strings, as MLServer's content type says it."""
    array = array_of_json(data, dtype, at=at)
    if array.size != prod(shape):
        raise InputError(f"shape {list(shape)} has {prod(shape)} elements, got {array.size}", at=at)
    if dtype == "string" and base64:
        files = [decode_base64(item, f"{at}[{number}]") for number, item in enumerate(array.flat)]
        return object_array(files, shape)
    if dtype == "string":
        return object_array([item.encode() for item in array.flat], shape)
    return array.reshape(shape)


def classified(array: Array, top: Any, labels: Sequence[str], at: str) -> Array:
    """Triton's classification extension: the `top` best of each row as `score:index[:label]`."""
    if not isinstance(top, int) or top < 1 or array.ndim < 1 or array.dtype.kind not in "iuf":
        raise InputError("classification wants a positive number and a numeric output", at=at)
    rows = array.reshape(1, -1) if array.ndim == 1 else array.reshape(len(array), -1)
    best = np.argsort(-rows.astype(np.float64), axis=1, kind="stable")[:, : min(top, rows.shape[1])]
    named = [
        f"{row[i]:f}:{i}" + (f":{labels[i]}" if i < len(labels) else "")
        for row, order in zip(rows, best, strict=True)
        for i in order
    ]
    strings = object_array([text.encode() for text in named], best.shape)
    return strings[0] if array.ndim == 1 else strings


def bytes_of_tensor(array: Array) -> bytes:
    if array.dtype.kind in "OUS":
        return pack_text(array)
    little = array.dtype.newbyteorder("<")
    return np.ascontiguousarray(array, dtype=little).tobytes()


def _to_list(array: Array) -> list[Any]:
    """Flat, as Triton sends it; not-a-number and infinities become null, which JSON can say."""
    if array.dtype.kind in "OUS":
        return [i.decode(errors="replace") if isinstance(i, bytes) else str(i) for i in array.flat]
    flat: list[Any] = array.ravel().tolist()
    return flat
