"""What goes over the wire: one item as each server likes it best, and how its answer is read and judged."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .limit import right_answer
from .models import INPUT, Array, Model
from .places import made

HEADER_LENGTH = "Inference-Header-Content-Length"

Judge = Callable[[int, bytes, Mapping[str, str]], str | None]
"""The number of the body that was sent, the reply's body and headers (names in lower case) -> what is wrong
with the answer, or None."""


@dataclass(frozen=True)
class Request:
    """A POST: where to, with what, and what has to come back."""

    wire: str
    """The name of the form, for tables."""
    path: str
    headers: dict[str, str]
    bodies: tuple[bytes, ...]
    judge: Judge

    def files(self) -> list[Path]:
        """The bodies as files, for wrk."""
        paths = []
        for body in self.bodies:
            path = made("bodies", hashlib.sha256(body).hexdigest()[:16])
            if not path.exists():
                path.write_bytes(body)
            paths.append(path)
        return paths


def raw(model: Model, path: str) -> Request:
    """The item's bytes, and the answer's: what a server whose author chooses the wire can do best."""
    headers = {"Content-Type": "application/octet-stream"}
    return Request("raw", path, headers, (model.example().tobytes(),), _judge(model, _floats))


def oip_binary(model: Model, path: str) -> Request:
    """The Open Inference Protocol with binary tensors both ways, as Triton's client sends it."""
    x = model.example()
    datatype = {"float32": "FP32", "uint8": "UINT8"}[model.dtype]
    size = {"binary_data_size": x.nbytes}
    tensor = {"name": INPUT, "shape": x.shape, "datatype": datatype, "parameters": size}
    head = json.dumps({"inputs": [tensor], "parameters": {"binary_data_output": True}}).encode()
    headers = {HEADER_LENGTH: str(len(head)), "Content-Type": "application/octet-stream"}
    return Request("OIP binary", path, headers, (head + x.tobytes(),), _judge(model, _oip_floats))


def oip_json(model: Model, path: str) -> Request:
    """The Open Inference Protocol with numbers as text."""
    x = model.example()
    datatype = {"float32": "FP32", "uint8": "UINT8"}[model.dtype]
    tensor = {"name": INPUT, "shape": x.shape, "datatype": datatype, "data": _digits(x.ravel())}
    body = json.dumps({"inputs": [tensor]}).encode()
    return Request("OIP JSON", path, _JSON, (body,), _judge(model, _oip_floats))


def plain_json(model: Model, path: str) -> Request:
    """`{"x": [[…]]}`, answered with a nested list."""
    body = json.dumps({INPUT: _digits(model.example())}).encode()
    return Request("JSON", path, _JSON, (body,), _judge(model, lambda reply, _: _flat(json.loads(reply))))


def pictures(
    files: Sequence[bytes], expected: Sequence[Sequence[tuple[str, float]]], path: str, *, form: bool = False
) -> Request:
    """Picture files as they are, or as the field `file` of a form; answered with labels and scores."""

    def judge(turn: int, reply: bytes, _: Mapping[str, str]) -> str | None:
        got = [(each["label"], each["score"]) for each in json.loads(reply)["answer"]]
        want = expected[turn]
        if [label for label, _ in got] != [label for label, _ in want]:
            return f"expected {want}, got {got}"
        off = max(abs(a - b) for (_, a), (_, b) in zip(got, want, strict=True))
        return f"a score is off by {off}" if off > 1e-3 else None

    if not form:
        return Request("JPEG", path, {"Content-Type": "image/jpeg"}, tuple(files), judge)
    edge = "----a-form-of-one-field"
    head = f'--{edge}\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
    bodies = tuple(
        f"{head}Content-Type: image/jpeg\r\n\r\n".encode() + data + f"\r\n--{edge}--\r\n".encode()
        for data in files
    )
    return Request(
        "JPEG form", path, {"Content-Type": f"multipart/form-data; boundary={edge}"}, bodies, judge
    )


_JSON = {"Content-Type": "application/json"}


def _judge(model: Model, read: Callable[[bytes, Mapping[str, str]], Array]) -> Judge:
    want = right_answer(model)

    def judge(turn: int, reply: bytes, headers: Mapping[str, str]) -> str | None:
        got = read(reply, headers)
        if got.shape != want.shape:
            return f"expected {want.size} numbers, got {list(got.shape)}"
        if not np.allclose(got, want, rtol=1e-3, atol=1e-5):
            return f"expected {want[:4]} …, got {got[:4]} …"
        return None

    return judge


def _floats(reply: bytes, headers: Mapping[str, str]) -> Array:
    return np.frombuffer(reply, "<f4")


def _oip_floats(reply: bytes, headers: Mapping[str, str]) -> Array:
    length = headers.get(HEADER_LENGTH.lower())
    if length is None:
        return _flat(json.loads(reply)["outputs"][0]["data"])
    return np.frombuffer(reply[int(length) :], "<f4")


def _flat(value: object) -> Array:
    if isinstance(value, dict):
        (value,) = value.values()
    return np.asarray(value, np.float32).ravel()


def _digits(x: Array) -> object:
    """Six decimals: what a careful JSON client sends."""
    return np.round(x.astype(np.float64), 6).tolist()
