"""The Open Inference Protocol over gRPC as calls: messages out, values in. Knows nothing of channels.

Tensors travel raw (`raw_input_contents`); replies with typed contents are read all the same. The time that a
call has left goes along twice, as the parameter `timeout` (in microseconds) and as gRPC's own deadline.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

import numpy as np

from ..errors import Unavailable, UsageError
from ..protos import open_inference as pb
from ..tensors import DTYPES_OF_OIP, Array, TensorSpec, object_array
from .arrays import check_shape, from_wire, tensors_of, to_wire
from .calls import Call, Parameter, Version, microseconds, name_of, outputs_of, parameters_of, version_of
from .failures import BadReply, Failed
from .items import PIXELS, Read, one_item
from .replies import stripped
from .rows import Rows, Text
from .settings import Settings
from .values import (
    BatchStatistics,
    InferResult,
    ModelMetadata,
    ModelState,
    ModelStatistics,
    Output,
    ServerMetadata,
    Spent,
    prediction_of,
)

T = TypeVar("T")


class Rpc(NamedTuple):
    """What a channel sends: a method's name and its message."""

    method: str
    message: Any


class Answer(NamedTuple):
    """What a channel received: a message, and the metadata `server-timing` behind it."""

    message: Any
    timing: str | None = None


class GrpcCalls:
    """Writes the calls of one client."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings

    def live(self) -> Call[bool]:
        """ServerLive"""
        return _call("ServerLive", pb.ServerLiveRequest(), lambda reply, _: _yes(reply.live, "not live"))

    def ready(self, model: str | None, version: Version) -> Call[bool]:
        """ServerReady or ModelReady"""
        if model is None:
            return _call(
                "ServerReady", pb.ServerReadyRequest(), lambda reply, _: _yes(reply.ready, "not ready")
            )
        message = pb.ModelReadyRequest(name=name_of(model), version=version_of(version))
        return _call("ModelReady", message, lambda reply, _: _yes(reply.ready, f"{model!r} is not ready"))

    def server(self) -> Call[ServerMetadata]:
        """ServerMetadata"""
        return _call(
            "ServerMetadata",
            pb.ServerMetadataRequest(),
            lambda reply, _: ServerMetadata(reply.name, reply.version, tuple(reply.extensions)),
        )

    def metadata(self, model: str, version: Version) -> Call[ModelMetadata]:
        """ModelMetadata"""
        message = pb.ModelMetadataRequest(name=name_of(model), version=version_of(version))
        return _call("ModelMetadata", message, _metadata)

    def models(self) -> Call[tuple[ModelState, ...]]:
        """RepositoryIndex"""
        return _call(
            "RepositoryIndex",
            pb.RepositoryIndexRequest(),
            lambda reply, _: tuple(
                ModelState(entry.name, entry.version, entry.state, entry.reason) for entry in reply.models
            ),
        )

    def statistics(self, model: str | None, version: Version) -> Call[tuple[ModelStatistics, ...]]:
        """ModelStatistics"""
        name = "" if model is None else name_of(model)
        message = pb.ModelStatisticsRequest(name=name, version=version_of(version))
        return _call("ModelStatistics", message, _statistics)

    def load(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]:
        """RepositoryModelLoad"""
        message = pb.RepositoryModelLoadRequest(
            model_name=name_of(model), parameters=_repository_parameters(parameters)
        )
        return _call("RepositoryModelLoad", message, lambda reply, _: None)

    def unload(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]:
        """RepositoryModelUnload"""
        message = pb.RepositoryModelUnloadRequest(
            model_name=name_of(model), parameters=_repository_parameters(parameters)
        )
        return _call("RepositoryModelUnload", message, lambda reply, _: None)

    def predict(
        self,
        model: str,
        item: Read,
        version: Version,
        options: Mapping[str, Parameter] | None = None,
    ) -> Call[Any]:
        """ModelInfer of the whole bundle, with one item, or with several rows of a table."""
        inputs: Mapping[str, Any]
        if isinstance(item, Rows):
            inputs, batched = item.tensors(), True
        elif isinstance(item, Text):
            inputs, batched = {"text": np.array([[str(item)]], object)}, True
        elif isinstance(item, bytes):
            inputs, batched = {PIXELS: item}, True
        elif isinstance(item, dict):
            inputs, batched = one_item(item)
        else:
            raise UsageError(
                f"an array {item.dtype}{list(item.shape)} goes by name over gRPC", hint="{'x': array}"
            )
        call = self.infer(model, inputs, version=version, parameters=options)

        def read(reply: Any, took: float) -> Any:
            result = call.read(reply, took)
            if isinstance(item, Rows) and not item.one:
                count = len(item.records)
                return [prediction_of(stripped(result, row, count)) for row in range(count)]
            return prediction_of(stripped(result) if batched else result)

        return Call(call.about, call.write, read)

    def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: Version = None,
        outputs: Sequence[str | Output] | None = None,
        id: str | None = None,
        priority: int = 0,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> Call[InferResult]:
        """ModelInfer"""
        message = pb.ModelInferRequest(
            model_name=name_of(model), model_version=version_of(version), id=id or ""
        )
        for name, (array, datatype) in tensors_of(inputs).items():
            message.inputs.add(name=name, datatype=datatype, shape=array.shape)
            message.raw_input_contents.append(bytes(to_wire(array, name)))
        for output in outputs_of(outputs) or ():
            asked = message.outputs.add(name=output.name)
            if output.classification:
                asked.parameters["classification"].int64_param = output.classification
        for name, value in parameters_of(parameters, priority).items():
            _set(message.parameters[name], value)
        own = parameters is not None and "timeout" in parameters

        def write(remaining: float | None) -> Rpc:
            if remaining is not None and not own:
                message.parameters["timeout"].int64_param = microseconds(remaining)
            return Rpc("ModelInfer", message)

        return Call(
            f"ModelInfer of {model!r}", write, lambda got, took: _infer(got.message, id, took, got.timing)
        )


def _call(method: str, message: Any, read: Callable[[Any, float], T]) -> Call[T]:
    return Call(method, lambda remaining: Rpc(method, message), lambda got, took: read(got.message, took))


def _yes(yes: bool, words: str) -> bool:
    if not yes:
        raise Failed(Unavailable(f"the server says: {words}"))
    return True


def _infer(
    reply: pb.ModelInferResponse, sent_id: str | None, took: float, timing: str | None = None
) -> InferResult:
    """An inference reply.

    Raises:
        BadReply: malformed, or the answer to another request.
    """
    if sent_id and reply.id and reply.id != sent_id:
        raise BadReply(f"sent the request {sent_id!r} and got the answer to {reply.id[:40]!r}")
    raw = reply.raw_output_contents
    if raw and len(raw) != len(reply.outputs):
        raise BadReply(f"{len(reply.outputs)} outputs and {len(raw)} raw_output_contents")
    arrays: dict[str, Array] = {}
    for index, output in enumerate(reply.outputs):
        at = f"$.outputs[{index}]"
        if output.name in arrays:
            raise BadReply(f"output {output.name!r} comes twice", at=at)
        shape = list(output.shape)
        if raw:
            arrays[output.name] = from_wire(memoryview(raw[index]), output.datatype, shape, at)
        else:
            arrays[output.name] = _typed(output.contents, output.datatype, shape, at)
    return InferResult(
        arrays,
        model=reply.model_name,
        version=reply.model_version,
        id=reply.id or None,
        parameters={name: _value(value) for name, value in reply.parameters.items()},
        server_timing=timing,
        took=took,
    )


_CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""The field of InferTensorContents that holds a datatype's elements; FP16 and BF16 have none."""


def _typed(contents: pb.InferTensorContents, datatype: str, shape: list[int], at: str) -> Array:
    check_shape(shape, at)
    field = _CONTENTS.get(datatype)
    if field is None:
        raise BadReply(f"a tensor of datatype {datatype!r} without its bytes", at=at)
    elements = list(getattr(contents, field))
    size = int(np.prod(shape, dtype=object)) if shape else 1
    if len(elements) != size:
        raise BadReply(f"shape {shape} has {size} elements, got {len(elements)}", at=at)
    if datatype == "BYTES":
        return object_array(elements, shape)
    wide = np.array(elements, None if elements else np.int64)
    array = wide.astype(DTYPES_OF_OIP[datatype]).reshape(shape)
    if array.dtype.kind in "iu" and not np.array_equal(array.reshape(-1), wide):
        raise BadReply(f"values that {datatype} does not hold", at=at)
    return array


def _metadata(reply: pb.ModelMetadataResponse, took: float) -> ModelMetadata:
    def specs(tensors: Any) -> tuple[TensorSpec, ...]:
        return tuple(
            TensorSpec(t.name, DTYPES_OF_OIP.get(t.datatype, t.datatype.lower()), tuple(t.shape))
            for t in tensors
        )

    return ModelMetadata(
        reply.name, tuple(reply.versions), reply.platform, specs(reply.inputs), specs(reply.outputs)
    )


def _statistics(reply: pb.ModelStatisticsResponse, took: float) -> tuple[ModelStatistics, ...]:
    def spent(duration: Any) -> Spent:
        return Spent(duration.count, duration.ns / 1e9)

    return tuple(
        ModelStatistics(
            name=entry.name,
            version=entry.version,
            last_inference=entry.last_inference / 1e3,
            inference_count=entry.inference_count,
            execution_count=entry.execution_count,
            stages={field.name: spent(value) for field, value in entry.inference_stats.ListFields()},
            batches=tuple(
                BatchStatistics(batch.batch_size, spent(batch.compute_infer)) for batch in entry.batch_stats
            ),
        )
        for entry in reply.model_stats
    )


def _set(parameter: pb.InferParameter, value: Parameter) -> None:
    if isinstance(value, bool):
        parameter.bool_param = value
    elif isinstance(value, int):
        if not -(1 << 63) <= value < 1 << 64:
            raise UsageError(f"a parameter of {value} does not fit 64 bits")
        if value < 1 << 63:
            parameter.int64_param = value
        else:
            parameter.uint64_param = value
    elif isinstance(value, float):
        parameter.double_param = value
    else:
        parameter.string_param = value


def _value(parameter: pb.InferParameter) -> object:
    chosen = parameter.WhichOneof("parameter_choice")
    value: object = None if chosen is None else getattr(parameter, chosen)
    return value


def _repository_parameters(parameters: Mapping[str, Parameter]) -> dict[str, pb.ModelRepositoryParameter]:
    found: dict[str, pb.ModelRepositoryParameter] = {}
    for name, value in parameters.items():
        if isinstance(value, bool):
            found[name] = pb.ModelRepositoryParameter(bool_param=value)
        elif isinstance(value, int):
            found[name] = pb.ModelRepositoryParameter(int64_param=value)
        else:
            found[name] = pb.ModelRepositoryParameter(string_param=str(value))
    return found
