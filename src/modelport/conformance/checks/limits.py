"""Sizes that lie, depth, and odd bytes: refused, and the server goes on."""

from __future__ import annotations

import json
from typing import Any

from ..answers import read_answer, refused, refused_each
from ..subject import Subject, request
from ..verdict import Wrong, check, expect
from .errors import changed

SHAPE = "each dimension is an integer representable as uint64: "


def _shape(subject: Subject, what: str, *shapes: list[Any]) -> None:
    refused_each((subject.infer(changed(subject, shape=shape)), f"{what} {shape}") for shape in shapes)


@check("limits", SHAPE + "negative ones are refused, also where their product fits")
def negative_dimensions(subject: Subject) -> None:
    first = list(next(iter(subject.model.given.values())).shape)
    _shape(subject, "the shape", [-1, *first[1:]], [-size for size in first], [-(2**63), *first[1:]])


@check("limits", SHAPE + "a product beyond 64 bits does not wrap round to the right size")
def overflowing_dimensions(subject: Subject) -> None:
    _shape(subject, "the shape", [2**32, 2**32], [2**62, 4], [2**63 - 1, 2**63 - 1])


@check("limits", SHAPE + "fractions, text and numbers beyond are refused")
def odd_dimensions(subject: Subject) -> None:
    first = list(next(iter(subject.model.given.values())).shape)
    _shape(subject, "the shape", [1.5, *first[1:]], ["2", *first[1:]], [2**64, *first[1:]])


@check("limits", "a shape that claims a huge tensor is refused before memory is taken")
def huge_claim(subject: Subject) -> None:
    first = list(next(iter(subject.model.given.values())).shape)
    _shape(subject, "the shape", [2**31, *first[1:]], [10**12, *first[1:]])


@check("limits", "JSON nested 100 000 deep is refused", source="RFC 8259 §9", should=True)
def deep_json(subject: Subject) -> None:
    path = f"{subject.model.path}/infer"
    headers = {"Content-Type": "application/json"}
    refused(subject.link.post(path, b'{"inputs": ' + b"[" * 100_000, headers), "100 000 brackets")
    body = json.dumps(changed(subject, data="@")).replace('"@"', "[" * 50_000 + "1" + "]" * 50_000)
    refused(subject.link.post(path, body.encode(), headers), "data nested 50 000 deep")


@check("limits", "a body that is no UTF-8 is refused", source="RFC 8259 §8.1")
def not_utf8(subject: Subject) -> None:
    text = json.dumps(request(subject.model, id="@")).encode().replace(b"@", b"\xff\xfe")
    headers = {"Content-Type": "application/json"}
    refused(subject.link.post(f"{subject.model.path}/infer", text, headers), "an id that is no UTF-8")


@check("limits", "a number beyond its datatype is an error or is coerced, and is no fault of the server's")
def number_out_of_range(subject: Subject) -> None:
    size = len(request(subject.model)["inputs"][0]["data"])
    reply = subject.infer(changed(subject, data=[10**400] * size))
    if reply.status != 200:
        refused(reply, "the number 10^400")
    else:
        read_answer(reply)


@check("limits", "names that point elsewhere are names of no model", source="RFC 3986")
def path_in_a_name(subject: Subject) -> None:
    for name in ("..%2f..%2f..%2fetc%2fpasswd", "%2e%2e", "a%00b", "x" * 2000, "%ff%fe"):
        reply = subject.link.get(f"v2/models/{name}")
        expect(reply.status >= 400, f"{name[:30]}: {reply.shown()}")
        expect(b"root:" not in reply.body, f"{name}: a file of the server came back")
        expect(reply.status < 500, f"{name[:30]}: {reply.status} blames the server", should=True)


@check("limits", "a body shorter than Content-Length is not answered as if it were whole", source="RFC 9112")
def cut_short(subject: Subject) -> None:
    data = json.dumps(request(subject.model)).encode()
    head = subject.link.head(
        "POST", f"{subject.model.path}/infer", {"Content-Length": str(len(data) + 10), "Connection": "close"}
    )
    with subject.link.connect() as stream:
        stream.sendall(head + data)
        stream.shutdown(1)
        try:
            reply = subject.link.told(stream, b"")
        except Wrong:
            return  # closed without a word, which is right too
    expect(reply.status >= 400, f"got {reply.shown()}")


@check(
    "limits", "a Content-Length that is no number, or two that differ, are refused", source="RFC 9112 §6.3"
)
def odd_content_length(subject: Subject) -> None:
    for lines in ("Content-Length: -5", "Content-Length: abc", "Content-Length: 5\r\nContent-Length: 6"):
        head = f"POST /{subject.model.path}/infer HTTP/1.1\r\nHost: a\r\nConnection: close\r\n{lines}\r\n\r\n"
        with subject.link.connect() as stream:
            try:
                reply = subject.link.told(stream, head.encode() + b"hello")
            except Wrong:
                continue  # closed without a word, which is right too
        expect(400 <= reply.status < 500, f"{lines!r}: {reply.shown()}")


@check("limits", "the server is alive and answers rightly after all of these")
def still_there(subject: Subject) -> None:
    expect(subject.link.get("v2/health/live").status == 200, "not live")
    told = read_answer(subject.infer(request(subject.model)))
    expect(set(told.outputs) == set(subject.answer.outputs), "another answer than before")
