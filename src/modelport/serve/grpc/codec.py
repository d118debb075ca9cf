"""Inference requests and replies between gRPC messages and arrays. Knows nothing of connections.

Tensors come raw (`raw_input_contents`, as in HTTP's binary extension) or typed (`contents`); they are
always answered raw, since Triton's clients read nothing else.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import prod
from typing import Any

import numpy as np

from ...errors import InputError
from ...protos.open_inference import InferParameter, ModelInferRequest, ModelInferResponse
from ...tensors import DTYPES_OF_OIP, OIP_DATATYPES, Array, dtype_name, numpy_dtype, object_array
from ..oip import (
    MAX_RANK,
    InferRequest,
    RequestedOutput,
    bytes_of_tensor,
    check_region,
    classified,
    tensor_of_bytes,
    timeout_of,
)

_CONTENTS = {
    "bool": "bool_contents",
    "int8": "int_contents",
    "int16": "int_contents",
    "int32": "int_contents",
    "int64": "int64_contents",
    "uint8": "uint_contents",
    "uint16": "uint_contents",
    "uint32": "uint_contents",
    "uint64": "uint64_contents",
    "float32": "fp32_contents",
    "float64": "fp64_contents",
    "string": "bytes_contents",
}
"""The field of InferTensorContents that holds the elements of a datatype."""


def read_request(message: ModelInferRequest) -> InferRequest:
    """The arrays and wishes in a request; raw tensors are views of the message's bytes.

    Raises:
        InputError: anything malformed; sizes are judged before memory is taken.
        Unsupported: a tensor in shared memory.
    """
    raw = message.raw_input_contents
    if raw and len(raw) != len(message.inputs):
        raise InputError(
            f"{len(message.inputs)} inputs and {len(raw)} raw_input_contents; expected one for each",
            at="$.raw_input_contents",
        )
    inputs: dict[str, Array] = {}
    for index, tensor in enumerate(message.inputs):
        at = f"$.inputs[{index}]"
        if tensor.name in inputs:
            raise InputError(f"input {tensor.name[:100]!r} is given twice", at=at)
        if tensor.parameters:
            check_region(tensor.parameters, at)
        dtype, shape = _dtype(tensor.datatype, at), list(tensor.shape)
        if len(shape) > MAX_RANK or (shape and min(shape) < 0):
            raise InputError(f"shape {shape[: MAX_RANK + 1]} is not a shape", at=f"{at}.shape")
        if not raw:
            inputs[tensor.name] = _typed(tensor, dtype, shape, f"{at}.contents")
        elif tensor.HasField("contents"):
            raise InputError("`contents` beside raw_input_contents; expected one of them", at=at)
        else:
            inputs[tensor.name] = tensor_of_bytes(memoryview(raw[index]), dtype, shape, at)
    parameters = {name: _value(value) for name, value in message.parameters.items()}
    timeout = timeout_of(parameters.get("timeout"))
    return InferRequest(inputs, message.id or None, _outputs(message), True, timeout, parameters)


def write_response(
    outputs: Mapping[str, Array],
    asked: InferRequest,
    *,
    model: str,
    version: str,
    labels: Sequence[str] = (),
) -> ModelInferResponse:
    """The reply: the outputs that were asked for, or all.

    Raises:
        InputError: an output is asked for that there is not, or `classification` of something that is
            not a batch of numbers.
    """
    reply = ModelInferResponse(model_name=model, model_version=version, id=asked.id or "")
    described, raw = reply.outputs, reply.raw_output_contents
    for index, wanted in enumerate(asked.outputs or [RequestedOutput(name) for name in outputs]):
        if wanted.name not in outputs:
            known = ", ".join(outputs)
            at = f"$.outputs[{index}]"
            raise InputError(f"unknown output {wanted.name[:100]!r}; known: {known}", at=at)
        array = outputs[wanted.name]
        if top := wanted.parameters.get("classification"):
            array = classified(array, top, labels, f"$.outputs[{index}]")
        described.add(name=wanted.name, datatype=OIP_DATATYPES[dtype_name(array)], shape=array.shape)
        raw.append(bytes_of_tensor(array))
    return reply


def _outputs(message: ModelInferRequest) -> tuple[RequestedOutput, ...] | None:
    if not message.outputs:
        return None
    found: dict[str, RequestedOutput] = {}
    for index, output in enumerate(message.outputs):
        at = f"$.outputs[{index}]"
        if output.name in found:
            raise InputError(f"output {output.name[:100]!r} is asked for twice", at=at)
        check_region(output.parameters, at)
        parameters = {name: _value(value) for name, value in output.parameters.items()}
        found[output.name] = RequestedOutput(output.name, parameters)
    return tuple(found.values())


def _dtype(datatype: str, at: str) -> str:
    dtype = DTYPES_OF_OIP.get(datatype)
    if dtype is None:
        known = ", ".join(DTYPES_OF_OIP)
        hint = "NumPy has no bfloat16: send FP32" if datatype == "BF16" else None
        raise InputError(
            f"unknown datatype {datatype[:100]!r}; known: {known}", at=f"{at}.datatype", hint=hint
        )
    return dtype


def _typed(tensor: ModelInferRequest.InferInputTensor, dtype: str, shape: list[int], at: str) -> Array:
    """A tensor whose elements are in the field of its datatype."""
    field = _CONTENTS.get(dtype)
    if field is None:
        raise InputError(
            f"{tensor.datatype} has no typed contents", at=at, hint="send it in raw_input_contents"
        )
    contents = tensor.contents
    elements = getattr(contents, field)
    if len(elements) != prod(shape):
        others = ", ".join(f"{len(values)} in {other.name}" for other, values in contents.ListFields())
        raise InputError(
            f"{tensor.datatype}{shape} takes {prod(shape)} elements in {field}, got {others or 'none'}", at=at
        )
    if dtype == "string":
        return object_array(list(elements), shape)
    want = numpy_dtype(dtype)
    if field not in ("int_contents", "uint_contents"):
        return np.array(elements, want).reshape(shape)
    # The narrow integers travel as 32 bits: what does not fit must not wrap round.
    wide = np.array(elements, np.int64)
    low, high = np.iinfo(want).min, np.iinfo(want).max
    if wide.size and not low <= wide.min() <= wide.max() <= high:
        raise InputError(
            f"expected {tensor.datatype} ({low} to {high}), got {wide.min()} to {wide.max()}", at=at
        )
    return wide.astype(want).reshape(shape)


def _value(parameter: InferParameter) -> Any:
    chosen = parameter.WhichOneof("parameter_choice")
    return None if chosen is None else getattr(parameter, chosen)
