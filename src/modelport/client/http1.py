"""HTTP/1.1 as a client speaks it: request bytes out, reply bytes in. No sockets, no clocks.

Replies are read by llhttp (httptools, which the server uses too). The rest of a long body whose length is
announced is not passed through it: the transport reads straight into the memory that the arrays will lie in.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Literal

import httptools
import numpy as np

from ..errors import UsageError
from .arrays import Buffer
from .failures import BadReply

HEADER_LENGTH = "Inference-Header-Content-Length"
SCRATCH = 1 << 16
"""Bytes of the buffer that heads and short bodies are read into; a longer head is refused."""
ALIGNMENT = 64
SMALL = 1 << 16
"""Bytes of a body that is joined to its head, so that it leaves in one packet and one call."""
WORTH_COMPRESSING = 1024

Encoding = Literal["gzip", "deflate"]
_WINDOW = {"gzip": 31, "deflate": 15}


class Reply:
    """A reply's status, headers (names in lower case) and body.

    A long body is memory of its own, writable, in which the tensors begin on a multiple of 64 bytes.
    """

    __slots__ = ("body", "headers", "keep_alive", "status")

    def __init__(self, status: int, headers: dict[str, str], body: Buffer, keep_alive: bool) -> None:
        self.status = status
        self.headers = headers
        self.body = body
        self.keep_alive = keep_alive
        """Whether the connection may carry another request."""


class Ended(Exception):
    """The connection ended before the reply did; `got` bytes of it came."""

    def __init__(self, got: int) -> None:
        super().__init__(f"ended after {got} bytes")
        self.got = got


def header_lines(headers: Mapping[str, str] | Iterable[tuple[str, str]]) -> bytes:
    """Headers as they are sent.

    Raises:
        UsageError: a name or value that would break out of its line.
    """
    pairs = headers.items() if isinstance(headers, Mapping) else headers
    text = "".join([f"{name}: {value}\r\n" for name, value in pairs])
    data = text.encode("latin-1", "replace")
    for name, value in pairs:
        plain = name.isascii() and name.replace("-", "").replace("_", "").isalnum()
        if not plain or not value.isascii() or not value.isprintable():
            raise UsageError(
                f"header {name!r} has characters that HTTP does not carry", hint="printable ASCII only"
            )
    return data


def request_parts(
    method: str, path: str, always: bytes, lines: bytes, body: Sequence[Buffer], encoding: Encoding | None
) -> list[Buffer]:
    """One request as the buffers to send, in order; a small one is one buffer.

    Args:
        path: already quoted.
        always: the header lines of every request of a client, `lines` those of this one.
        encoding: how to compress a body that is worth it.
    """
    size = sum(len(part) for part in body)
    if encoding and size >= WORTH_COMPRESSING:
        body = [_compress(body, encoding)]
        size = len(body[0])
        lines += b"Content-Encoding: " + encoding.encode() + b"\r\n"
    first = f"{method} {path} HTTP/1.1\r\n".encode("ascii")
    length = b"Content-Length: %d\r\n" % size if method != "GET" else b""
    head = b"".join([first, always, lines, length, b"\r\n"])
    if size <= SMALL:
        return [b"".join([head, *body])]
    # The JSON part comes first and is short: it goes with the head.
    return [head, *body] if len(body[0]) > SMALL else [b"".join([head, body[0]]), *body[1:]]


def _compress(body: Sequence[Buffer], encoding: Encoding) -> bytes:
    packer = zlib.compressobj(1, zlib.DEFLATED, _WINDOW[encoding])
    return b"".join([*(packer.compress(part) for part in body), packer.flush()])


class ReplyReader:
    """Puts one reply after another together from what a transport reads.

    `begin()` comes before every reply. The transport asks for `buffer()`, reads into it, and tells
    `received(count)`; at the end of the stream it calls `ended()`.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._view = memoryview(bytearray(SCRATCH))
        self._parser: httptools.HttpResponseParser | None = None
        self.begin()

    def begin(self) -> None:
        """Expect a new reply."""
        self.got = 0
        """Bytes of it that came."""
        self._headers: dict[str, str] = {}
        self._status = 0  # until its head is complete
        self._keep_alive = False
        self._complete = False
        self._chunks: list[bytes] = []
        self._size = 0
        self._body: memoryview | None = None
        self._place = 0
        if self._parser is None:
            self._parser = httptools.HttpResponseParser(self)

    def buffer(self) -> memoryview:
        """Where the next bytes go; never empty."""
        if self._body is not None and self._place < len(self._body):
            return self._body[self._place :]
        return self._view

    def received(self, count: int) -> Reply | None:
        """`count` bytes are in the buffer; the reply, if it is complete.

        Raises:
            BadReply: not HTTP, or over the limit.
        """
        self.got += count
        if self._body is not None:
            self._place += count
            return self._reply(self._body) if self._place == len(self._body) else None
        self._feed(self._view[:count])
        if self._complete:
            return self._reply(_joined(self._chunks))
        if not self._status:
            if self.got > SCRATCH:
                raise BadReply(f"the reply's head is over {SCRATCH} bytes")
            return None
        length = _length_of(self._headers)
        if max(self._size, length or 0) > self._limit:
            raise BadReply(f"the reply is over {self._limit} bytes, the most that are read")
        if length is not None:
            self._take_over(length)
        return None

    def ended(self) -> Reply:
        """The stream has ended; the reply, if that is what ends it.

        Raises:
            Ended: it is not.
        """
        framed = self._headers.keys() & {"content-length", "transfer-encoding"}
        if not self._status or framed or self._complete:
            raise Ended(self.got)
        self._keep_alive = False
        return self._reply(_joined(self._chunks))

    def close(self) -> None:
        """Let go of the parser: it holds this reader's methods, and the two would wait for the collector."""
        self._parser = None

    def _feed(self, data: memoryview) -> None:
        try:
            if self._parser is not None:
                self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as problem:
            self._keep_alive = False  # what follows a complete reply is no reply
            if not self._complete:
                raise BadReply(f"the reply is not HTTP/1.1: {problem}") from problem

    def _take_over(self, length: int) -> None:
        """The rest of the body has a known length: it is read to where it stays, past the parser."""
        self._parser = None  # it is left in the middle of the body: the next reply gets another
        size = self._headers.get("inference-header-content-length", "")
        tensors_at = int(size) if size.isascii() and size.isdigit() and len(size) < 12 else 0
        self._body = _aligned(length, tensors_at)
        for chunk in self._chunks:
            self._body[self._place : self._place + len(chunk)] = chunk
            self._place += len(chunk)
        self._chunks.clear()

    def _reply(self, body: Buffer) -> Reply:
        encoding = self._headers.get("content-encoding")
        if encoding is not None and encoding.lower() != "identity" and len(body):
            body = _decompress(body, encoding.lower(), self._limit)
        return Reply(self._status, self._headers, body, self._keep_alive)

    def on_message_begin(self) -> None:
        """Called by the parser, as the methods below."""
        if self._complete:
            self._keep_alive = False  # a second reply, that nobody asked for

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self._status:  # after the body come trailers, which say nothing here
            self._headers[name.decode("latin-1").lower()] = value.decode("latin-1")

    def on_headers_complete(self) -> None:
        if self._parser is not None and not self._complete:
            self._status = self._parser.get_status_code()
            self._keep_alive = self._parser.should_keep_alive()

    def on_body(self, body: bytes) -> None:
        if not self._complete:
            self._chunks.append(body)
            self._size += len(body)

    def on_message_complete(self) -> None:
        if self._status >= 200:
            self._complete = True
        elif not self._complete:
            self._headers, self._status = {}, 0  # 100 Continue and its like: the answer is still to come


def _length_of(headers: Mapping[str, str]) -> int | None:
    """The body's length if the head says it.

    Raises:
        BadReply: it says two things.
    """
    length = headers.get("content-length")
    if length is None:
        return None
    if "transfer-encoding" in headers or not length.isascii() or not length.isdigit():
        raise BadReply(f"the reply's Content-Length is {length[:20]!r}, beside what other headers say")
    return int(length)


def _aligned(size: int, tensors_at: int) -> memoryview:
    """Memory for a body whose tensors begin at `tensors_at`: they will lie on a multiple of 64 bytes."""
    block = np.empty(size + ALIGNMENT, np.uint8)  # untouched memory: an announced length costs nothing yet
    offset = -(block.__array_interface__["data"][0] + tensors_at) % ALIGNMENT
    return block.data[offset : offset + size]


def _joined(chunks: Sequence[bytes]) -> bytes:
    return chunks[0] if len(chunks) == 1 else b"".join(chunks)


def _decompress(body: Buffer, encoding: str, limit: int) -> bytes:
    window = _WINDOW.get(encoding)
    if window is None:
        raise BadReply(f"the reply has Content-Encoding {encoding[:40]!r}, which was not asked for")
    try:
        unpacker = zlib.decompressobj(window)
        data = unpacker.decompress(body, limit + 1)
    except zlib.error as problem:
        raise BadReply(f"the reply is not {encoding}: {problem}") from problem
    if len(data) > limit:
        raise BadReply(f"the reply unpacks to more than {limit} bytes")
    if not unpacker.eof:
        raise BadReply(f"the reply's {encoding} ends in the middle")
    return data
