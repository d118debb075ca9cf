"""The Open Inference Protocol over HTTP, and `/predict`, as calls: bytes out, values in. No I/O.

Tensors travel in binary (the binary tensor extension); replies in JSON are read all the same, for servers
that do not speak it. The time that a call has left goes along twice, as the parameter `timeout` (in
microseconds, as Triton has it) and as the header `X-Request-Timeout-Ms`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec

from . import replies
from .arrays import Buffer, tensors_of, to_wire
from .calls import Call, Parameter, Version, microseconds, name_of, outputs_of, parameters_of, version_of
from .failures import failed_status
from .http1 import HEADER_LENGTH, Reply, header_lines, request_parts
from .items import Read, npy_of, one_item
from .rows import Rows, Text
from .settings import Settings
from .values import (
    InferResult,
    ModelMetadata,
    ModelState,
    ModelStatistics,
    Output,
    Prediction,
    ServerMetadata,
    prediction_of,
)

T = TypeVar("T")

_TENSORS = f"Content-Type: application/octet-stream\r\n{HEADER_LENGTH}: %d\r\n".encode()


class HttpCalls:
    """Writes the calls of one client's settings."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._always = settings.always()
        self._prefix = settings.address.prefix

    def live(self) -> Call[bool]:
        """GET /v2/health/live"""
        return self._call("GET", "/v2/health/live", _yes)

    def ready(self, model: str | None, version: Version) -> Call[bool]:
        """GET /v2/health/ready, or a model's."""
        path = "/v2/health/ready" if model is None else f"{_model_path(model, version)}/ready"
        return self._call("GET", path, _yes)

    def server(self) -> Call[ServerMetadata]:
        """GET /v2"""
        return self._call("GET", "/v2", replies.server)

    def metadata(self, model: str, version: Version) -> Call[ModelMetadata]:
        """GET /v2/models/NAME"""
        return self._call("GET", _model_path(model, version), replies.metadata)

    def models(self) -> Call[tuple[ModelState, ...]]:
        """POST /v2/repository/index"""
        return self._call("POST", "/v2/repository/index", replies.states)

    def statistics(self, model: str | None, version: Version) -> Call[tuple[ModelStatistics, ...]]:
        """GET /v2/models/NAME/stats, or of all models."""
        path = "/v2/models" if model is None else _model_path(model, version)
        return self._call("GET", f"{path}/stats", replies.statistics)

    def load(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]:
        """POST /v2/repository/models/NAME/load"""
        return self._change(model, "load", parameters)

    def unload(self, model: str, parameters: Mapping[str, Parameter]) -> Call[None]:
        """POST /v2/repository/models/NAME/unload"""
        return self._change(model, "unload", parameters)

    def predict(
        self,
        model: str,
        item: Read,
        version: Version,
        options: Mapping[str, Parameter] | None = None,
    ) -> Call[Any]:
        """POST /predict/NAME; arrays by name go to infer, which keeps their datatypes."""
        if isinstance(item, dict):
            inputs, batched = one_item(item)
            call = self.infer(model, inputs, version=version, parameters=options)

            def read(reply: Reply, took: float) -> Prediction:
                result = call.read(reply, took)
                return prediction_of(replies.stripped(result) if batched else result)

            return Call(call.about, call.write, read)
        read_reply: Callable[[Buffer, float], Any] = replies.prediction
        kind = "application/octet-stream"
        if isinstance(item, Rows):
            body, kind = item.json(), "application/json"
            read_reply = replies.prediction if item.one else replies.predictions
        elif isinstance(item, Text):
            body, kind = item.encode(errors="replace"), "text/plain; charset=utf-8"
        else:
            body = item if isinstance(item, bytes) else npy_of(item)
        name, number = _quoted(name_of(model)), _quoted(version_of(version))
        path = f"/predict/{name}/{number}" if number else f"/predict/{name}"
        if options:
            path += f"?{urlencode({key: _said(value) for key, value in parameters_of(options).items()})}"
        return self._call("POST", path, read_reply, [body], f"Content-Type: {kind}\r\n".encode())

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
        """POST /v2/models/NAME/infer"""
        tensors = tensors_of(inputs)
        blobs = [to_wire(array, name) for name, (array, _) in tensors.items()]
        head: dict[str, Any] = {"id": id} if id is not None else {}
        head["inputs"] = [
            {
                "name": name,
                "shape": array.shape,
                "datatype": datatype,
                "parameters": {"binary_data_size": len(blob)},
            }
            for (name, (array, datatype)), blob in zip(tensors.items(), blobs, strict=True)
        ]
        asked = outputs_of(outputs)
        said = parameters_of(parameters, priority)
        if asked is None:
            said["binary_data_output"] = True
        else:
            head["outputs"] = [_asked(output) for output in asked]
        head["parameters"] = said
        path = f"{_model_path(model, version)}/infer"
        own = "timeout" in said

        def write(remaining: float | None) -> list[Buffer]:
            if remaining is not None and not own:
                said["timeout"] = microseconds(remaining)
            text = msgspec.json.encode(head)
            return self._request("POST", path, [text, *blobs], _TENSORS % len(text), remaining)

        def read(reply: Reply, took: float) -> InferResult:
            return replies.infer(_success(reply, path), reply.headers, id, took)

        return Call(f"POST {path}", write, read)

    def _change(self, model: str, verb: str, parameters: Mapping[str, Parameter]) -> Call[None]:
        path = f"/v2/repository/models/{_quoted(name_of(model))}/{verb}"
        body = msgspec.json.encode({"parameters": parameters_of(parameters)}) if parameters else b""
        return self._call("POST", path, _nothing, [body])

    def _call(
        self,
        method: str,
        path: str,
        read: Callable[[Buffer, float], T],
        body: Sequence[Buffer] = (),
        lines: bytes = b"",
    ) -> Call[T]:
        about = f"{method} {path}"
        return Call(
            about,
            lambda remaining: self._request(method, path, body, lines, remaining),
            lambda reply, took: read(_success(reply, about), took),
        )

    def _request(
        self, method: str, path: str, body: Sequence[Buffer], lines: bytes, remaining: float | None
    ) -> list[Buffer]:
        if remaining is not None:
            lines += b"X-Request-Timeout-Ms: %d\r\n" % max(1, int(remaining * 1e3))
        if further := self._settings.further():
            lines += header_lines(further)
        return request_parts(
            method, self._prefix + path, self._always, lines, body, self._settings.compression
        )


def _yes(body: Buffer, took: float) -> bool:
    return True


def _nothing(body: Buffer, took: float) -> None:
    return None


def _success(reply: Reply, about: str) -> Buffer:
    """The body of a reply that is no refusal.

    Raises:
        Failed: it is one.
    """
    if 200 <= reply.status < 300:
        return reply.body
    headers = reply.headers
    raise failed_status(
        reply.status,
        reply.body,
        about,
        retry_after=headers.get("retry-after"),
        location=headers.get("location"),
    )


def _asked(output: Output) -> dict[str, Any]:
    parameters: dict[str, Any] = {"binary_data": True}
    if output.classification:
        parameters["classification"] = output.classification
    return {"name": output.name, "parameters": parameters}


def _said(value: Parameter) -> str:
    """An option in an address."""
    return str(value).lower() if isinstance(value, bool) else str(value)


@lru_cache(maxsize=1024)
def _quoted(part: str) -> str:
    return quote(part, safe="")


def _model_path(model: str, version: Version) -> str:
    path = f"/v2/models/{_quoted(name_of(model))}"
    number = version_of(version)
    return f"{path}/versions/{_quoted(number)}" if number else path
