"""Health and metadata over REST."""

from __future__ import annotations

from typing import Any

from ..answers import error_text
from ..http import Reply
from ..subject import Subject
from ..tensors import DATATYPES
from ..verdict import check, expect

UNKNOWN = "no-such-model-6a1f"


def _told_yes(reply: Reply, key: str) -> None:
    """A health reply: an empty body (as Triton has it), or JSON that says true."""
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    if reply.body.strip():
        data = reply.json()
        fine = isinstance(data, dict) and any(data.get(each) is True for each in (key, "live", "ready"))
        expect(fine, f"the body is neither empty nor says that it is {key}: {reply.shown()}")


@check("health", "GET v2/health/live says that the server can receive requests: 200")
def live(subject: Subject) -> None:
    _told_yes(subject.link.get("v2/health/live"), "live")


@check("health", "GET v2/health/ready says that all models are ready: 200")
def ready(subject: Subject) -> None:
    _told_yes(subject.link.get("v2/health/ready"), "ready")


@check("health", "GET v2/models/NAME/ready says that a model is ready: 200")
def model_ready(subject: Subject) -> None:
    _told_yes(subject.link.get(f"{subject.model.path}/ready"), "ready")


@check("health", "a model that is not there is not ready: a 4xx status")
def unknown_is_not_ready(subject: Subject) -> None:
    reply = subject.link.get(f"v2/models/{UNKNOWN}/ready")
    expect(reply.status >= 400, f"got {reply.shown()}")
    expect(reply.status < 500, f"got {reply.shown()}", should=True)


@check("health", "HEAD is answered wherever GET is, without a body", source="RFC 9110", should=True)
def head_of_live(subject: Subject) -> None:
    reply = subject.link.ask("HEAD", "v2/health/live")
    expect(reply.status == 200 and not reply.body, f"got {reply.shown()}")


@check("metadata", "GET v2 has the server's name, version and extensions")
def server(subject: Subject) -> None:
    reply = subject.link.get("v2")
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    data = reply.json()
    expect(isinstance(data, dict), "not an object")
    for key in ("name", "version"):
        expect(isinstance(data.get(key), str) and bool(data[key]), f"`{key}` is {data.get(key)!r}")
    listed = data.get("extensions")
    expect(
        isinstance(listed, list) and all(isinstance(e, str) for e in listed), f"`extensions` is {listed!r}"
    )


@check("metadata", "metadata is JSON and says so in Content-Type", source="RFC 9110")
def content_type(subject: Subject) -> None:
    reply = subject.link.get(subject.model.path)
    expect(reply.status == 200, f"expected 200, got {reply.shown()}")
    _is_json(reply)


def _is_json(reply: Reply) -> None:
    kind = reply.headers.get("content-type", "")
    expect(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")


def _describes(data: Any, name: str) -> None:
    expect(isinstance(data, dict) and data.get("name") == name, f"`name` is not {name!r}")
    expect(isinstance(data.get("platform"), str), f"`platform` is {data.get('platform')!r}")
    for key in ("inputs", "outputs"):
        expect(isinstance(data.get(key), list) and bool(data[key]), f"`{key}` is {data.get(key)!r}")
        for index, entry in enumerate(data[key]):
            at = f"$.{key}[{index}]"
            expect(isinstance(entry, dict) and isinstance(entry.get("name"), str), f"{at} has no name")
            kind = entry.get("datatype")
            expect(kind in DATATYPES or kind == "BF16", f"{at}.datatype is {kind!r}")
            shape = entry.get("shape")
            whole = isinstance(shape, list) and all(type(size) is int and size >= -1 for size in shape)
            expect(whole, f"{at}.shape is {shape!r}")


@check("metadata", "GET v2/models/NAME describes every input and output: name, datatype, shape")
def model(subject: Subject) -> None:
    for each in subject.models[:8]:
        reply = subject.link.get(each.path)
        expect(reply.status == 200, f"expected 200, got {reply.shown()}")
        _describes(reply.json(), each.name)


@check("metadata", 'metadata of a model that is not there is an error status with {"error"}')
def unknown_model(subject: Subject) -> None:
    reply = subject.link.get(f"v2/models/{UNKNOWN}")
    expect(reply.status >= 400, f"got {reply.shown()}")
    error_text(reply)
    expect(reply.status < 500, f"{reply.status} blames the server", should=True)


@check("metadata", "an answer has the outputs, datatypes and shapes that the metadata promises")
def promise_is_kept(subject: Subject) -> None:
    answer = subject.answer
    declared = {tensor.name: tensor for tensor in subject.model.outputs}
    expect(
        set(answer.outputs) == set(declared), f"outputs are {sorted(answer.outputs)}, not {sorted(declared)}"
    )
    for name, array in answer.outputs.items():
        tensor = declared[name]
        expect(answer.datatypes[name] == tensor.datatype, f"{name!r} came as {answer.datatypes[name]}")
        fits = len(array.shape) == len(tensor.shape) and all(
            want in (-1, have) for want, have in zip(tensor.shape, array.shape, strict=True)
        )
        expect(fits, f"{name!r} has the shape {list(array.shape)}, declared {list(tensor.shape)}")
