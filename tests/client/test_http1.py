"""HTTP/1.1 on the client's side: replies however they are cut, and what is no reply."""

from __future__ import annotations

import gzip
import zlib

import httptools
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelport.client.failures import BadReply
from modelport.client.http1 import (
    ALIGNMENT,
    SCRATCH,
    Ended,
    Reply,
    ReplyReader,
    header_lines,
    request_parts,
)
from modelport.errors import UsageError

LIMIT = 1 << 22


def read(reader: ReplyReader, data: bytes, sizes: list[int]) -> tuple[Reply | None, int]:
    """Feed `data` as a socket would, in pieces of `sizes` (the last one repeats); bytes that were taken."""
    reader.begin()
    place, turn = 0, 0
    while place < len(data):
        buffer = reader.buffer()
        assert len(buffer)
        count = min(sizes[min(turn, len(sizes) - 1)], len(buffer), len(data) - place)
        buffer[:count] = data[place : place + count]
        place, turn = place + count, turn + 1
        reply = reader.received(count)
        if reply is not None:
            return reply, place
    return None, place


BODY = bytes(range(256)) * 3
FORMS = {
    "length": b"HTTP/1.1 200 OK\r\nX-A:  b \r\nContent-Length: %d\r\n\r\n" % len(BODY) + BODY,
    "chunked": b"HTTP/1.1 200 OK\r\nX-A: b\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n" % 300
    + BODY[:300]
    + b"\r\n%x;ext=1\r\n" % (len(BODY) - 300)
    + BODY[300:]
    + b"\r\n0\r\nX-Trailer: no\r\n\r\n",
    "continued": b"HTTP/1.1 100 Continue\r\nX-No: 1\r\n\r\n"
    + b"HTTP/1.1 200 OK\r\nX-A: b\r\nContent-Length: %d\r\n\r\n" % len(BODY)
    + BODY,
}
SIZES = st.lists(st.integers(1, 400), min_size=1, max_size=8)


@pytest.mark.parametrize("form", FORMS)
@given(sizes=SIZES)
def test_a_reply_is_the_same_however_it_is_cut(form: str, sizes: list[int]) -> None:
    reader = ReplyReader(LIMIT)
    for _ in range(2):  # one reader reads one reply after another
        reply, taken = read(reader, FORMS[form], sizes)
        assert reply is not None and taken == len(FORMS[form])
        assert (reply.status, bytes(reply.body), reply.keep_alive) == (200, BODY, True)
        assert reply.headers["x-a"].strip() == "b" and "x-no" not in reply.headers
        assert "x-trailer" not in reply.headers


@pytest.mark.parametrize("form", FORMS)
@given(data=st.data())
def test_a_reply_that_is_cut_off_is_none(form: str, data: st.DataObject) -> None:
    whole = FORMS[form]
    cut = data.draw(st.integers(0, len(whole) - 1))
    reader = ReplyReader(LIMIT)
    reply, _ = read(reader, whole[:cut], data.draw(SIZES))
    assert reply is None
    with pytest.raises(Ended) as ended:
        reader.ended()
    assert ended.value.got == cut


@given(st.binary(max_size=300), SIZES)
def test_whatever_comes_is_a_reply_or_refused(data: bytes, sizes: list[int]) -> None:
    for start in (b"", b"HTTP/1.1 ", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: "):
        reader = ReplyReader(LIMIT)
        try:
            reply, _ = read(reader, start + data, sizes)
            if reply is None:
                reader.ended()
        except (BadReply, Ended):
            continue


def test_a_body_until_the_end_of_the_stream() -> None:
    reader = ReplyReader(LIMIT)
    assert read(reader, b"HTTP/1.0 200 OK\r\n\r\nsome words", [3])[0] is None
    reply = reader.ended()
    assert bytes(reply.body) == b"some words" and not reply.keep_alive


@pytest.mark.parametrize(
    ("head", "keep"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nab", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", False),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n", True),
        (b"HTTP/1.1 204 No\r\n\r\n", True),
    ],
)
def test_whether_a_connection_may_be_used_again(head: bytes, keep: bool) -> None:
    reply, _ = read(ReplyReader(LIMIT), head, [7])
    assert reply is not None and reply.keep_alive is keep


@pytest.mark.parametrize("form", ["length", "chunked"])
@pytest.mark.parametrize("more", [b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\n\r\nx", b"x", b"\0\0"])
def test_a_second_reply_that_nobody_asked_for_ends_the_connection(form: str, more: bytes) -> None:
    reply, _ = read(ReplyReader(LIMIT), FORMS[form] + more, [1 << 20])
    assert reply is not None and bytes(reply.body) == BODY
    assert not reply.keep_alive


REFUSED = {
    "not HTTP": b"SSH-2.0-OpenSSH\r\n\r\n",
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "status": b"HTTP/1.1 abc OK\r\n\r\n",
    "upgrade": b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\nxx",
    "negative": b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
    "not a number": b"HTTP/1.1 200 OK\r\nContent-Length: 1e3\r\n\r\n",
    "too great a number": b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999\r\n\r\n",
    "two lengths": b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "length and chunks": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 5\r\n"
    + b"\r\n0\r\n\r\n",
    "chunk size": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "over the limit": b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (LIMIT + 1),
    "header without end": b"HTTP/1.1 200 OK\r\nX: " + b"y" * (SCRATCH + 10),
    "endless 1xx": b"HTTP/1.1 100 Continue\r\n\r\n" * 4000,
    "chunks over the limit": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
    + (b"%x\r\n" % (1 << 20) + bytes(1 << 20) + b"\r\n") * 5,
    "encoding": b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 2\r\n\r\nab",
    "not gzip": b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 2\r\n\r\nab",
}


@pytest.mark.parametrize("name", REFUSED)
@pytest.mark.parametrize("size", [1000, 1 << 20])
def test_what_is_no_reply_is_refused(name: str, size: int) -> None:
    reader = ReplyReader(LIMIT)
    with pytest.raises(BadReply):
        read(reader, REFUSED[name], [size])


@pytest.mark.parametrize("name", ["gzip", "deflate"])
def test_compressed_replies_within_the_limit(name: str) -> None:
    def reply_of(data: bytes) -> bytes:
        packed = gzip.compress(data) if name == "gzip" else zlib.compress(data)
        head = b"HTTP/1.1 200 OK\r\nContent-Encoding: %s\r\nContent-Length: %d\r\n\r\n"
        return head % (name.encode(), len(packed)) + packed

    reply, _ = read(ReplyReader(LIMIT), reply_of(BODY), [100])
    assert reply is not None and bytes(reply.body) == BODY
    with pytest.raises(BadReply, match="unpacks to more"):
        read(ReplyReader(LIMIT), reply_of(bytes(LIMIT + 1)), [1 << 20])
    cut = reply_of(BODY)
    head, _, packed = cut.partition(b"\r\n\r\n")
    short = head.replace(b"%d" % len(packed), b"%d" % (len(packed) - 9)) + b"\r\n\r\n" + packed[:-9]
    with pytest.raises(BadReply, match="in the middle"):
        read(ReplyReader(LIMIT), short, [100])


@pytest.mark.parametrize("json_size", [0, 1, 17, 63, 64, 200])
def test_a_long_body_is_read_to_where_it_stays_with_its_tensors_aligned(json_size: int) -> None:
    tensor = np.arange(100_000, dtype=np.float64)
    body = b"j" * json_size + tensor.tobytes()
    head = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    reply, _ = read(ReplyReader(LIMIT), head % (json_size, len(body)) + body, [5000, 100, 1 << 20])
    assert reply is not None and bytes(reply.body) == body
    view = np.frombuffer(memoryview(reply.body)[json_size:], np.float64)
    assert view.flags.writeable and view.flags.aligned
    assert view.__array_interface__["data"][0] % ALIGNMENT == 0
    assert np.array_equal(view, tensor)


class Parsed:
    """A request as the server's parser sees it."""

    def __init__(self, parts: list[bytes | bytearray | memoryview]) -> None:
        self.headers: dict[bytes, bytes] = {}
        self.body = b""
        self.done = False
        parser = httptools.HttpRequestParser(self)
        for part in parts:
            parser.feed_data(bytes(part))
        self.method = parser.get_method()

    def on_url(self, url: bytes) -> None:
        self.url = url

    def on_header(self, name: bytes, value: bytes) -> None:
        assert name not in self.headers
        self.headers[name] = value

    def on_body(self, body: bytes) -> None:
        self.body += body

    def on_message_complete(self) -> None:
        self.done = True


@pytest.mark.parametrize("size", [0, 10, 100_000])
@pytest.mark.parametrize("encoding", [None, "gzip", "deflate"])
def test_a_request_is_read_by_the_servers_parser(size: int, encoding: str | None) -> None:
    tensor = np.arange(size, dtype=np.uint8).data
    parts = request_parts("POST", "/a%20b", b"Host: x\r\n", b"X-B: c\r\n", [b"{}", tensor], encoding)  # type: ignore[arg-type]
    assert size > 1 << 16 or len(parts) == 1  # a small request leaves in one packet
    got = Parsed(parts)
    assert got.done and got.method == b"POST" and got.url == b"/a%20b"
    assert got.headers[b"Host"] == b"x" and got.headers[b"X-B"] == b"c"
    packed = got.headers.get(b"Content-Encoding")
    body = zlib.decompress(got.body, 47) if packed else got.body
    assert body == b"{}" + bytes(tensor)
    assert (packed is not None) == (encoding is not None and size >= 1024)


@pytest.mark.parametrize(
    ("name", "value"),
    [("X-A", "a\r\nX-Evil: 1"), ("X-A\r\nX-Evil", "1"), ("X A", "1"), ("", "1"), ("X-A", "ü"), ("X-A", "\0")],
)
def test_headers_do_not_break_out_of_their_lines(name: str, value: str) -> None:
    with pytest.raises(UsageError, match="header"):
        header_lines({name: value})
