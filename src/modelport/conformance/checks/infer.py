"""Inference with JSON, and versions of a model."""

from __future__ import annotations

import json

from ..answers import Answer, read_answer, refused
from ..subject import Model, Subject, request
from ..tensors import nested_json, same
from ..verdict import NotOffered, check, expect


def agrees(one: Answer, other: Answer) -> None:
    """Raise `Wrong` unless two answers hold the same outputs."""
    expect(set(one.outputs) == set(other.outputs), f"outputs are {sorted(one.outputs)}")
    for name, array in one.outputs.items():
        expect(
            same(array, other.outputs[name]), f"output {name!r} differs from the answer to the same request"
        )


@check("infer", "a request has a 200 answer with model_name and every output's name, shape, datatype, data")
def answer(subject: Subject) -> None:
    told = subject.answer
    expect(told.json["model_name"] == subject.model.name, f"`model_name` is {told.json['model_name']!r}")
    kind = told.reply.headers.get("content-type", "")
    expect(kind.partition(";")[0].strip() == "application/json", f"Content-Type is {kind!r}")


@check("infer", "elements may be nested by the shape or flat, in row-major order")
def nested(subject: Subject) -> None:
    body = request(subject.model)
    for entry in body["inputs"]:
        entry["data"] = nested_json(subject.model.given[entry["name"]])
    agrees(read_answer(subject.infer(body)), subject.answer)


@check("infer", "an id is returned as it was given")
def identity(subject: Subject) -> None:
    for text in ("42", 'Käse "7" \\ é'):
        told = read_answer(subject.infer(request(subject.model, id=text)))
        expect(told.json.get("id") == text, f"`id` is {told.json.get('id')!r}, sent {text!r}")


@check("infer", "outputs that are named are returned, and no others")
def chosen_outputs(subject: Subject) -> None:
    for tensor in subject.model.outputs:
        told = read_answer(subject.infer(request(subject.model, outputs=[{"name": tensor.name}])))
        expect(list(told.outputs) == [tensor.name], f"asked for {tensor.name!r}, got {sorted(told.outputs)}")
        expect(
            same(told.outputs[tensor.name], subject.answer.outputs[tensor.name]), f"{tensor.name!r} differs"
        )


@check("infer", "a batch is answered in full, each row as if it had come alone")
def rows(subject: Subject) -> None:
    if not subject.model.batched:
        raise NotOffered("the model takes no batches")
    whole = subject.answer
    for row in range(2):
        alone = {name: array[row : row + 1] for name, array in subject.model.given.items()}
        told = read_answer(subject.infer(request(subject.model, alone)))
        for name, array in whole.outputs.items():
            expect(same(told.outputs[name], array[row : row + 1]), f"row {row} of {name!r} differs alone")


@check("infer", "parameters that a server does not know do no harm", should=True)
def unknown_parameter(subject: Subject) -> None:
    told = read_answer(subject.infer(request(subject.model, parameters={"x_conformance": "yes"})))
    agrees(told, subject.answer)


@check("infer", "JSON is read whatever its order of keys, blanks and escapes", source="RFC 8259")
def any_json(subject: Subject) -> None:
    body = dict(reversed(list(request(subject.model, id="a/b").items())))
    text = json.dumps(body, indent=3).replace("a/b", "\\u0061\\/b")
    headers = {"Content-Type": "application/json; charset=utf-8"}
    told = read_answer(subject.link.post(f"{subject.model.path}/infer", f"\r\n{text}\n".encode(), headers))
    expect(told.json.get("id") == "a/b", f"`id` is {told.json.get('id')!r}")
    agrees(told, subject.answer)


@check(
    "infer", "a body without Content-Type is read: Triton's clients send none", source="Triton", should=True
)
def no_content_type(subject: Subject) -> None:
    data = json.dumps(request(subject.model)).encode()
    agrees(read_answer(subject.link.post(f"{subject.model.path}/infer", data)), subject.answer)


def _version(subject: Subject) -> tuple[str, str]:
    model: Model = subject.model
    if not model.versions:
        raise NotOffered("the model names no versions")
    return model.versions[-1], f"{model.path}/versions/{model.versions[-1]}"


@check("versions", "every version in `versions` can be requested explicitly: metadata and readiness")
def listed(subject: Subject) -> None:
    _version(subject)
    for version in subject.model.versions[:8]:
        for path in ("", "/ready"):
            reply = subject.link.get(f"{subject.model.path}/versions/{version}{path}")
            expect(reply.status == 200, f"version {version}{path}: expected 200, got {reply.shown()}")


@check("versions", "a version's inference says which version answered")
def infer(subject: Subject) -> None:
    version, path = _version(subject)
    told = read_answer(subject.link.post(f"{path}/infer", request(subject.model)))
    expect(
        told.json.get("model_version") == version, f"`model_version` is {told.json.get('model_version')!r}"
    )


@check("versions", "without a version the server chooses one that it lists")
def chosen(subject: Subject) -> None:
    _version(subject)
    version = subject.answer.json.get("model_version")
    expect(version in subject.model.versions, f"`model_version` is {version!r}")


@check("versions", 'a version that is not there is an error status with {"error"}, wherever it is named')
def unknown(subject: Subject) -> None:
    _version(subject)
    path = f"{subject.model.path}/versions/9876"
    refused(subject.link.get(path), "metadata of version 9876")
    refused(subject.link.post(f"{path}/infer", request(subject.model)), "inference by version 9876")
    reply = subject.link.get(f"{path}/ready")
    expect(reply.status >= 400, f"version 9876 is ready: {reply.shown()}")
