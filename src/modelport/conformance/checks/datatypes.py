"""Every datatype there and back: its extremes, as JSON and as bytes; and BYTES."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..answers import read_answer, refused
from ..http import strict_json
from ..subject import Model, Subject, binary_request, request
from ..tensors import DATATYPES, SPEAKABLE, Array, edges, same, texts
from ..verdict import NotOffered, Wrong, check, expect

LABELS = ["", "a", "Zürich", "日本語", 'quote " and \\', "line\nbreak", "x" * 300, "\u0001"]


def _returns(subject: Subject, model: Model, name: str, value: Array, *, binary: bool) -> Array:
    given = {**model.given, name: value}
    if binary:
        head, data = binary_request(model, given, parameters={"binary_data_output": True})
        told = read_answer(subject.infer_binary(head, data, model))
    else:
        told = read_answer(subject.infer(request(model, given), model))
    return told.outputs[model.echoes[name]]


def _both_ways(datatype: str) -> Callable[[Subject], None]:
    def values(subject: Subject) -> None:
        model, name = subject.echo(datatype)
        sent = edges(datatype, model.given[name].shape)
        if datatype in SPEAKABLE:
            back = _returns(subject, model, name, sent, binary=False)
            expect(
                same(back, sent),
                f"JSON: {sent.ravel()[:6].tolist()} came back as {back.ravel()[:6].tolist()}",
            )
        elif not speaks_binary(subject):
            raise NotOffered(f"{datatype} needs the binary extension")
        if speaks_binary(subject):
            back = _returns(subject, model, name, sent, binary=True)
            exact = back.dtype == sent.dtype and back.tobytes() == sent.tobytes()
            expect(exact, f"binary: {sent.ravel()[:6].tolist()} came back as {back.ravel()[:6].tolist()}")

    values.__name__ = datatype
    return values


for _each in DATATYPES:
    if _each != "BYTES":
        check("datatypes", f"{_each}: the extremes come back, in JSON and in binary where offered")(
            _both_ways(_each)
        )


@check(
    "datatypes", "NaN and infinity in an answer leave it JSON, which has no word for them", source="RFC 8259"
)
def nan_in_json(subject: Subject) -> None:
    model, name = subject.echo("FP32")
    if not speaks_binary(subject):
        raise NotOffered("only the binary extension can send one")
    value = np.full(model.given[name].shape, np.nan, np.float32)
    value.ravel()[0] = np.inf
    head, data = binary_request(model, {**model.given, name: value})
    reply = subject.infer_binary(head, data, model)
    expect(reply.status < 500, f"got {reply.shown()}", should=True)
    strict_json(reply.body)


def speaks_binary(subject: Subject) -> bool:
    """Whether the binary extension is announced, or works although it is not."""
    if "binary_tensor_data" in subject.extensions:
        return True
    try:
        head, data = binary_request(subject.model)
        read_answer(subject.infer_binary(head, data))
    except Wrong:
        return False
    return True


@check("BYTES", "strings of any length and script come back as they were, in JSON")
def json_strings(subject: Subject) -> None:
    model, name = subject.echo("BYTES")
    sent = _cut([text.encode() for text in LABELS], model.given[name])
    back = _returns(subject, model, name, sent, binary=False)
    expect(same(back, sent), f"sent {sent.ravel().tolist()}, got {back.ravel().tolist()}"[:200])


@check(
    "BYTES", "an element is its length as uint32 and its bytes; text comes back as it was", source="binary"
)
def binary_strings(subject: Subject) -> None:
    model, name = _binary_echo(subject)
    sent = _cut([text.encode() for text in LABELS], model.given[name])
    back = _returns(subject, model, name, sent, binary=True)
    expect(same(back, sent), f"sent {sent.ravel().tolist()}, got {back.ravel().tolist()}"[:200])


@check(
    "BYTES",
    "elements are bytes and need not be text: they come back, or are refused as such",
    source="binary",
)
def any_bytes(subject: Subject) -> None:
    model, name = _binary_echo(subject)
    sent = _cut([b"\xff\xfe\x00", b"\x80", b"\x00\x01", b"\xc3("], model.given[name])
    head, data = binary_request(model, {**model.given, name: sent}, parameters={"binary_data_output": True})
    reply = subject.infer_binary(head, data, model)
    if reply.status >= 400:
        refused(reply, "bytes that are no text")
        return
    back = read_answer(reply).outputs[model.echoes[name]]
    expect(same(back, sent), f"sent {sent.ravel().tolist()}, got {back.ravel().tolist()}"[:200])


def _damaged(subject: Subject, change: Callable[[bytes], bytes], what: str) -> None:
    model, _ = _binary_echo(subject)
    head, data = binary_request(model)
    if len(head["inputs"]) != 1:
        raise NotOffered("needs a model with one input")
    data = change(data)
    head["inputs"][0]["parameters"]["binary_data_size"] = len(data)
    refused(subject.infer_binary(head, data, model), what)


@check("BYTES", "a length that reaches behind the tensor is refused", source="binary")
def length_past_the_end(subject: Subject) -> None:
    _damaged(subject, lambda data: b"\xff\xff\xff\xff" + data[4:], "a length of 4 GiB")
    _damaged(subject, lambda data: bytes([data[0] + 1]) + data[1:], "a length one too long")


@check("BYTES", "a tensor that ends inside a length is refused", source="binary")
def cut_in_a_length(subject: Subject) -> None:
    _damaged(subject, lambda data: data + b"\x01\x00", "two bytes after the last element")


@check("BYTES", "more or fewer elements than the shape has are refused", source="binary")
def wrong_count(subject: Subject) -> None:
    _damaged(subject, lambda data: data + b"\x01\x00\x00\x00a", "one element too many")
    _damaged(subject, lambda data: data[4 + data[0] :], "one element too few")


def _binary_echo(subject: Subject) -> tuple[Model, str]:
    found = subject.echo("BYTES")
    if not speaks_binary(subject):
        raise NotOffered("binary_tensor_data is not announced in v2")
    return found


def _cut(items: list[bytes], like: Array) -> Array:
    return texts([items[index % len(items)] for index in range(like.size)], like.shape)
