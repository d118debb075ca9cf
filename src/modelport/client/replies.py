"""The bodies of the Open Inference Protocol's replies, judged and made into values. No I/O.

Everything that is not as the protocol says is BadReply; unknown fields are passed over, and null is as good
as absent (KServe writes it).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
import numpy as np

from ..errors import InputError
from ..tensors import DTYPES_OF_OIP, Array, TensorSpec, array_of_json
from .arrays import Buffer, from_json, from_wire
from .failures import BadReply
from .values import (
    BatchStatistics,
    Detection,
    InferResult,
    Label,
    ModelMetadata,
    ModelState,
    ModelStatistics,
    Prediction,
    ServerMetadata,
    Spent,
    Timing,
    timing_of,
)

T = TypeVar("T")


class _Output(msgspec.Struct):
    name: str
    shape: list[int]
    datatype: str
    parameters: dict[str, Any] | None = None
    data: Any = None


class _Infer(msgspec.Struct):
    outputs: list[_Output]
    model_name: str | None = None
    model_version: str | int | None = None
    id: str | None = None
    parameters: dict[str, Any] | None = None


class _Entry(msgspec.Struct):
    label: str
    score: float
    number: int = msgspec.field(name="class", default=-1)
    box: tuple[float, float, float, float] | None = None


_Answer = list[_Entry] | dict[str, Any]


class _PredictMany(msgspec.Struct):
    model: str
    version: str
    answers: list[_Answer]
    timing_ms: dict[str, float] | None = None


class _Predict(msgspec.Struct):
    model: str
    version: str
    answer: _Answer
    timing_ms: dict[str, float] | None = None


class _Tensor(msgspec.Struct):
    name: str
    datatype: str
    shape: list[int]


class _Metadata(msgspec.Struct):
    name: str
    versions: list[str] | None = None
    platform: str | None = None
    inputs: list[_Tensor] | None = None
    outputs: list[_Tensor] | None = None


class _Server(msgspec.Struct):
    name: str
    version: str | None = None
    extensions: list[str] | None = None


class _State(msgspec.Struct):
    name: str
    version: str | None = None
    state: str | None = None
    reason: str | None = None


class _Duration(msgspec.Struct):
    count: int = 0
    ns: int = 0


class _Batch(msgspec.Struct):
    batch_size: int
    compute_infer: _Duration | None = None


class _Statistics(msgspec.Struct):
    name: str
    version: str
    last_inference: int = 0
    inference_count: int = 0
    execution_count: int = 0
    inference_stats: dict[str, _Duration] | None = None
    batch_stats: list[_Batch] | None = None


class _AllStatistics(msgspec.Struct):
    model_stats: list[_Statistics]


_INFER = msgspec.json.Decoder(_Infer)
_PREDICT = msgspec.json.Decoder(_Predict)
_PREDICT_MANY = msgspec.json.Decoder(_PredictMany)
_METADATA = msgspec.json.Decoder(_Metadata)
_SERVER = msgspec.json.Decoder(_Server)
_STATES = msgspec.json.Decoder(list[_State])
_STATISTICS = msgspec.json.Decoder(_AllStatistics)


def infer(body: Buffer, headers: Mapping[str, str], sent_id: str | None, took: float) -> InferResult:
    """An inference reply: JSON, or JSON and then the tensors whose sizes it says.

    Raises:
        BadReply: malformed, or the answer to another request.
    """
    view = memoryview(body)
    place = _header_end(headers.get("inference-header-content-length"), len(view))
    reply = _decode(_INFER, view[:place])
    if sent_id and reply.id and reply.id != sent_id:
        raise BadReply(f"sent the request {sent_id!r} and got the answer to {reply.id[:40]!r}")
    arrays: dict[str, Array] = {}
    for index, output in enumerate(reply.outputs):
        at = f"$.outputs[{index}]"
        if output.name in arrays:
            raise BadReply(f"output {output.name!r} comes twice", at=at)
        size = (output.parameters or {}).get("binary_data_size")
        if size is None:
            arrays[output.name] = from_json(output.data, output.datatype, output.shape, at)
            continue
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size <= len(view) - place:
            raise BadReply(f"binary_data_size is {size!r} and {len(view) - place} bytes are left", at=at)
        data = view[place : place + size]
        arrays[output.name] = from_wire(data, output.datatype, output.shape, at)
        place += size
    if place != len(view):
        raise BadReply(f"{len(view) - place} bytes are left over after the last tensor")
    return InferResult(
        arrays,
        model=reply.model_name or "",
        version="" if reply.model_version is None else str(reply.model_version),
        id=reply.id,
        parameters=reply.parameters,
        server_timing=headers.get("server-timing"),
        took=took,
    )


def prediction(body: Buffer, took: float = 0.0) -> Prediction:
    """The reply of /predict.

    Raises:
        BadReply: malformed.
    """
    reply = _decode(_PREDICT, body)
    timing = timing_of({name: ms / 1e3 for name, ms in (reply.timing_ms or {}).items()}, took)
    return _prediction(reply, reply.answer, timing)


def predictions(body: Buffer, took: float = 0.0) -> list[Prediction]:
    """The reply of /predict to several rows or texts.

    Raises:
        BadReply: malformed.
    """
    reply = _decode(_PREDICT_MANY, body)
    timing = timing_of({name: ms / 1e3 for name, ms in (reply.timing_ms or {}).items()}, took)
    return [_prediction(reply, answer, timing) for answer in reply.answers]


def _prediction(reply: _Predict | _PredictMany, answer: _Answer, timing: Timing) -> Prediction:
    if isinstance(answer, list):
        return Prediction(reply.model, reply.version, tuple(map(_label, answer)), {}, timing)
    outputs = {name: _answer_array(value, f"$.answer.{name}") for name, value in answer.items()}
    return Prediction(reply.model, reply.version, (), outputs, timing)


def _label(entry: _Entry) -> Label:
    if entry.box is None:
        return Label(entry.label, entry.score)
    return Detection(entry.label, entry.score, entry.number, entry.box)


def metadata(body: Buffer, took: float = 0.0) -> ModelMetadata:
    """A model's metadata.

    Raises:
        BadReply: malformed.
    """
    reply = _decode(_METADATA, body)
    return ModelMetadata(
        reply.name,
        tuple(reply.versions or ()),
        reply.platform or "",
        tuple(map(_spec, reply.inputs or ())),
        tuple(map(_spec, reply.outputs or ())),
    )


def server(body: Buffer, took: float = 0.0) -> ServerMetadata:
    """The server's metadata.

    Raises:
        BadReply: malformed.
    """
    reply = _decode(_SERVER, body)
    return ServerMetadata(reply.name, reply.version or "", tuple(reply.extensions or ()))


def states(body: Buffer, took: float = 0.0) -> tuple[ModelState, ...]:
    """The repository's index.

    Raises:
        BadReply: malformed.
    """
    return tuple(
        ModelState(entry.name, entry.version or "", entry.state or "", entry.reason or "")
        for entry in _decode(_STATES, body)
    )


def statistics(body: Buffer, took: float = 0.0) -> tuple[ModelStatistics, ...]:
    """The statistics of one model's versions, or of all.

    Raises:
        BadReply: malformed.
    """
    return tuple(
        ModelStatistics(
            name=entry.name,
            version=entry.version,
            last_inference=entry.last_inference / 1e3,
            inference_count=entry.inference_count,
            execution_count=entry.execution_count,
            stages={name: _spent(duration) for name, duration in (entry.inference_stats or {}).items()},
            batches=tuple(
                BatchStatistics(batch.batch_size, _spent(batch.compute_infer or _Duration()))
                for batch in entry.batch_stats or ()
            ),
        )
        for entry in _decode(_STATISTICS, body).model_stats
    )


def _answer_array(value: Any, at: str) -> Array:
    """Numbers or text in nested lists; null is not-a-number or an infinity, which JSON cannot say."""
    try:
        array = array_of_json(value, None, at=at)
        # NumPy makes floats of whole numbers that only uint64 holds, and loses their last digits.
        whole = array.dtype == np.float64 and all(type(v) is int for v in np.asarray(value, object).flat)
        return np.asarray(value, np.uint64) if whole and array.size else array
    except OverflowError as problem:
        raise BadReply(f"whole numbers that no datatype holds: {problem}", at=at) from problem
    except InputError as problem:
        try:
            return np.asarray(value, np.float64)
        except (TypeError, ValueError):
            raise BadReply(problem.message, at=at) from problem


def _decode(decoder: msgspec.json.Decoder[T], body: Buffer) -> T:
    try:
        return decoder.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise BadReply(
            f"the reply is not what the Open Inference Protocol says: {problem}",
            hint="does the URL lead to an inference server?",
        ) from problem


def _header_end(length: str | None, total: int) -> int:
    if length is None:
        return total
    if not (length.isascii() and length.isdigit() and len(length) < 13) or int(length) > total:
        raise BadReply(f"Inference-Header-Content-Length is {length[:20]!r}; expected 0 to {total}")
    return int(length)


def _spec(tensor: _Tensor) -> TensorSpec:
    dtype = DTYPES_OF_OIP.get(tensor.datatype, tensor.datatype.lower())
    return TensorSpec(tensor.name, dtype, tuple(tensor.shape))


def _spent(duration: _Duration) -> Spent:
    return Spent(duration.count, duration.ns / 1e9)


def stripped(result: InferResult, row: int = 0, rows: int = 1) -> InferResult:
    """One item's part of an answer for a batch of `rows`, without the batch axis.

    Raises:
        BadReply: it is not one.
    """
    arrays: dict[str, Array] = {}
    for name, array in result.items():
        if array.ndim == 0 or len(array) != rows:
            sent = "one item" if rows == 1 else f"{rows} items"
            raise BadReply(f"sent {sent} and output {name!r} has shape {list(array.shape)}")
        arrays[name] = np.asarray(array[row], dtype=array.dtype)
    return InferResult(
        arrays,
        model=result.model,
        version=result.version,
        id=result.id,
        parameters=result.parameters,
        server_timing=result.server_timing,
        took=result.took,
    )
