"""Requests that are wrong: told as the caller's fault, in the protocol's form."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..answers import read_answer, refused
from ..subject import Subject, request
from ..tensors import SPEAKABLE
from ..verdict import check, expect
from .basics import UNKNOWN

ERROR = 'a failed inference is an HTTP error status and {"error"}: '


def changed(subject: Subject, **fields: Any) -> dict[str, Any]:
    """A right request with fields of its first input replaced."""
    body = request(subject.model)
    body["inputs"][0] |= fields
    return body


def _body(
    name: str, what: str, make: Callable[[Subject], bytes | dict[str, Any]], *, should: bool = False
) -> None:
    """A check that a body is refused."""

    def refuses(subject: Subject) -> None:
        body = make(subject)
        if isinstance(body, bytes):
            headers = {"Content-Type": "application/json"}
            refused(subject.link.post(f"{subject.model.path}/infer", body, headers), what)
        else:
            refused(subject.infer(body), what)

    refuses.__name__ = name
    check("errors", ERROR + what, should=should)(refuses)


@check("errors", ERROR + "a model that is not there")
def unknown_model(subject: Subject) -> None:
    refused(subject.link.post(f"v2/models/{UNKNOWN}/infer", request(subject.model)), "an unknown model")


_body("empty_body", "an empty body", lambda subject: b"")
_body("not_json", "a body that is no JSON", lambda subject: b'{"inputs": [')
_body("trailing_garbage", "JSON with something behind it", lambda subject: b'{"inputs": []} x')
_body("not_an_object", "a list instead of an object", lambda subject: b"[1, 2, 3]")
_body("no_inputs_field", "no `inputs`", lambda subject: {"id": "1"})
_body("missing_input", "an input left out", lambda subject: {"inputs": []})
_body("unknown_input", "an input of another name", lambda subject: changed(subject, name="no_such_input"))
_body("extra_input", "an input too many", lambda subject: _extra(subject, "no_such_input"), should=True)
_body("duplicate_input", "an input given twice", lambda subject: _extra(subject, None), should=True)
_body("unknown_datatype", "a datatype that there is not", lambda subject: changed(subject, datatype="FP31"))
_body(
    "wrong_datatype",
    "another datatype than the model's",
    lambda subject: _other_datatype(subject),
    should=True,
)
_body("no_datatype", "an input without datatype", lambda subject: _without(subject, "datatype"))
_body("no_shape", "an input without shape", lambda subject: _without(subject, "shape"))
_body("no_data", "an input without data", lambda subject: _without(subject, "data"))
_body("too_few_elements", "fewer elements than the shape has", lambda subject: _elements(subject, -1))
_body("too_many_elements", "more elements than the shape has", lambda subject: _elements(subject, 1))
_body("wrong_rank", "a shape of another rank", lambda subject: _reshaped(subject))
_body("text_for_numbers", "text where numbers belong", lambda subject: _texts(subject))
_body("object_for_numbers", "an object where numbers belong", lambda subject: changed(subject, data={"a": 1}))
_body(
    "unknown_output",
    "an output that there is not",
    lambda subject: request(subject.model, outputs=[{"name": "no_such_output"}]),
)
_body("id_not_a_string", "an id that is no string", lambda subject: request(subject.model, id={"a": 1}))


@check(
    "errors",
    "an output asked for twice is answered once or refused, not sent twice",
    source="Triton",
    should=True,
)
def duplicate_output(subject: Subject) -> None:
    name = {"name": subject.model.outputs[0].name}
    reply = subject.infer(request(subject.model, outputs=[name, name]))
    if reply.status == 200:
        read_answer(reply)
    else:
        refused(reply, "an output asked for twice")


@check("errors", "an error's body is JSON and says so in Content-Type", source="RFC 9110")
def content_type(subject: Subject) -> None:
    reply = subject.infer({"inputs": []})
    refused(reply, "an input left out")
    kind = reply.headers.get("content-type", "")
    expect(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")


@check(
    "errors",
    "a method that a path has not is 405, and Allow says which it has",
    source="RFC 9110",
    should=True,
)
def wrong_method(subject: Subject) -> None:
    reply = subject.link.ask("DELETE", f"{subject.model.path}/infer")
    expect(reply.status == 405, f"DELETE of infer: {reply.shown()}")
    expect("allow" in reply.headers, "405 without Allow")


@check("errors", "a path that there is not is 404", source="RFC 9110", should=True)
def unknown_path(subject: Subject) -> None:
    for path in ("v2/no-such-thing", f"{subject.model.path}/no-such-thing", "v2/models/a/b/c/d"):
        reply = subject.link.get(path)
        expect(reply.status == 404, f"{path}: {reply.shown()}")


@check("errors", "right requests are answered after all of these")
def still_there(subject: Subject) -> None:
    read_answer(subject.infer(request(subject.model)))


def _extra(subject: Subject, name: str | None) -> dict[str, Any]:
    body = request(subject.model)
    extra = dict(body["inputs"][0])
    body["inputs"].append(extra | {"name": name or extra["name"]})
    return body


def _without(subject: Subject, key: str) -> dict[str, Any]:
    body = request(subject.model)
    del body["inputs"][0][key]
    return body


def _elements(subject: Subject, more: int) -> dict[str, Any]:
    body = request(subject.model)
    data = body["inputs"][0]["data"]
    body["inputs"][0]["data"] = data[:more] if more < 0 else data + data[:more]
    return body


def _reshaped(subject: Subject) -> dict[str, Any]:
    """One dimension of 1 too many, three times over: no server drops three by chance."""
    return changed(subject, shape=[*request(subject.model)["inputs"][0]["shape"], 1, 1, 1])


def _other_datatype(subject: Subject) -> dict[str, Any]:
    have = subject.model.inputs[0].datatype
    other = next(each for each in ("INT64", "FP64") if each != have)
    assert other in SPEAKABLE
    data = [int(value) for value in request(subject.model)["inputs"][0]["data"]]
    return changed(subject, datatype=other, data=data)


def _texts(subject: Subject) -> dict[str, Any]:
    return changed(subject, data=["text"] * len(request(subject.model)["inputs"][0]["data"]))
