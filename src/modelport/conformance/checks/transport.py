"""HTTP itself, as far as clients lean on it; and compressed bodies."""

from __future__ import annotations

import gzip
import json
import zlib
from collections.abc import Mapping

from ..answers import read_answer
from ..http import Reply
from ..subject import Subject, request
from ..verdict import NotOffered, check, expect
from .infer import agrees


def _text(subject: Subject) -> bytes:
    return json.dumps(request(subject.model)).encode()


def _path(subject: Subject) -> str:
    return f"{subject.model.path}/infer"


_JSON = {"Content-Type": "application/json"}


@check("HTTP", "several requests are answered on one connection, in order", source="RFC 9112 §9.3")
def keep_alive(subject: Subject) -> None:
    data = _text(subject)
    head = subject.link.head("POST", _path(subject), {**_JSON, "Content-Length": str(len(data))})
    with subject.link.connect() as stream:
        for _ in range(3):
            agrees(read_answer(subject.link.told(stream, head + data)), subject.answer)


@check("HTTP", "a body may come in chunks", source="RFC 9112 §7.1")
def chunked(subject: Subject) -> None:
    data = _text(subject)
    parts = [data[:7], data[7:50], data[50:]]
    body = b"".join(b"%x\r\n%b\r\n" % (len(part), part) for part in parts if part) + b"0\r\n\r\n"
    lines = {**_JSON, "Transfer-Encoding": "chunked", "Connection": "close"}
    with subject.link.connect() as stream:
        reply = subject.link.told(stream, subject.link.head("POST", _path(subject), lines) + body)
    agrees(read_answer(reply), subject.answer)


@check("HTTP", "a client that expects 100-continue is not kept waiting", source="RFC 9110 §10.1.1")
def expects_continue(subject: Subject) -> None:
    data = _text(subject)
    lines = {**_JSON, "Content-Length": str(len(data)), "Expect": "100-continue", "Connection": "close"}
    with subject.link.connect() as stream:
        stream.sendall(subject.link.head("POST", _path(subject), lines))
        first = stream.recv(64)  # blocks for the link's timeout
        expect(first.startswith(b"HTTP/1.1 100"), f"before the body came {first[:40]!r}")
        while not first.endswith(b"\r\n\r\n"):
            more = stream.recv(1)
            expect(bool(more), "the connection ended inside the 100")
            first += more
        agrees(read_answer(subject.link.told(stream, data)), subject.answer)


@check("HTTP", "a head and a body that come in pieces are put together", source="RFC 9112")
def in_pieces(subject: Subject) -> None:
    data = _text(subject)
    lines = {**_JSON, "Content-Length": str(len(data)), "Connection": "close"}
    whole = subject.link.head("POST", _path(subject), lines) + data
    with subject.link.connect() as stream:
        stream.setsockopt(6, 1, 1)
        for start in range(0, len(whole) - 10, 61):
            stream.send(whole[start : min(start + 61, len(whole) - 10)])
        agrees(read_answer(subject.link.told(stream, whole[-10:])), subject.answer)


def _packed(subject: Subject, coding: str, body: bytes, more: Mapping[str, str] | None = None) -> Reply:
    headers = {**_JSON, "Content-Encoding": coding, **(more or {})}
    return subject.link.post(_path(subject), body, headers)


def _reads(subject: Subject, coding: str, body: bytes) -> None:
    reply = _packed(subject, coding, body)
    if 400 <= reply.status < 500:
        raise NotOffered(f"{coding} bodies are refused: {reply.shown()}")
    agrees(read_answer(reply), subject.answer)


@check("compression", "Content-Encoding: gzip is read", source="Triton")
def gzip_body(subject: Subject) -> None:
    _reads(subject, "gzip", gzip.compress(_text(subject)))


@check("compression", "Content-Encoding: deflate (a zlib stream) is read", source="Triton")
def deflate_body(subject: Subject) -> None:
    _reads(subject, "deflate", zlib.compress(_text(subject)))


@check("compression", "a damaged gzip body is a 4xx error", source="RFC 9110", should=True)
def damaged(subject: Subject) -> None:
    for body in (b"not gzip at all", gzip.compress(_text(subject))[:-12]):
        reply = _packed(subject, "gzip", body)
        expect(400 <= reply.status < 500, f"got {reply.shown()}")


@check("compression", "a coding that the server does not know is 415", source="RFC 9110 §8.4", should=True)
def unknown_coding(subject: Subject) -> None:
    reply = _packed(subject, "x-no-such-coding", _text(subject))
    expect(reply.status == 415, f"got {reply.shown()}")


@check("compression", "a reply is compressed as the client accepts, or not at all", source="RFC 9110 §12.5.3")
def accepted(subject: Subject) -> None:
    for coding in ("gzip", "deflate", "identity", "gzip;q=0, identity"):
        reply = subject.link.post(_path(subject), _text(subject), {**_JSON, "Accept-Encoding": coding})
        told = reply.headers.get("content-encoding", "identity")
        expect(told == "identity" or told == coding, f"accepting {coding!r}, it came as {told!r}")
        if told == "gzip":
            reply = reply._replace(body=gzip.decompress(reply.body))
        elif told == "deflate":
            reply = reply._replace(body=zlib.decompress(reply.body))
        agrees(read_answer(reply), subject.answer)
