"""A8, the request's frame: lengths that lie, two framings at once, floods, and slowness."""

from __future__ import annotations

import socket
import time

import psutil
import pytest

from ...colours import picture
from .conftest import check_health
from .wire import CRLF, Target, closes, get, head, post, read, send

RED = picture("red")
PREDICT = "/predict/colours"
SMUGGLED = b"GET /v2/health/live HTTP/1.1\r\nHost: smuggled\r\n\r\n"


def framed(*lines: bytes, body: bytes = b"") -> bytes:
    return CRLF.join([b"POST /predict/colours HTTP/1.1", b"Host: 127.0.0.1", *lines, b"", b""]) + body


CHUNKED = b"%x\r\n%b\r\n0\r\n\r\n" % (len(RED), RED)
LENGTH = b"Content-Length: %d" % len(RED)

TWO_WAYS = {
    "both": framed(LENGTH, b"Transfer-Encoding: chunked", body=CHUNKED + SMUGGLED),
    "both, the other way round": framed(b"Transfer-Encoding: chunked", LENGTH, body=CHUNKED + SMUGGLED),
    "chunked not last": framed(b"Transfer-Encoding: chunked, identity", body=CHUNKED + SMUGGLED),
    "not quite chunked": framed(b"Transfer-Encoding: xchunked", LENGTH, body=CHUNKED + SMUGGLED),
    "quoted": framed(b'Transfer-Encoding: "chunked"', LENGTH, body=CHUNKED + SMUGGLED),
    "space before the colon": framed(b"Transfer-Encoding : chunked", LENGTH, body=CHUNKED + SMUGGLED),
    "on a folded line": framed(b"Transfer-Encoding:", b" chunked", LENGTH, body=CHUNKED + SMUGGLED),
    "vertical tab": framed(b"Transfer-Encoding: \x0bchunked", LENGTH, body=CHUNKED + SMUGGLED),
    "two lengths": framed(b"Content-Length: 0", LENGTH, body=RED + SMUGGLED),
    "two equal lengths": framed(LENGTH, LENGTH, body=RED + SMUGGLED),
    "a list of lengths": framed(b"Content-Length: 5, 5", body=b"12345" + SMUGGLED),
    "negative": framed(b"Content-Length: -1", body=SMUGGLED),
    "plus": framed(b"Content-Length: +5", body=b"12345" + SMUGGLED),
    "hexadecimal": framed(b"Content-Length: 0x10", body=b"1" * 16 + SMUGGLED),
    "a space inside": framed(b"Content-Length: 1 6", body=b"1" * 16 + SMUGGLED),
    "empty": framed(b"Content-Length:", body=SMUGGLED),
    "over 64 bits": framed(b"Content-Length: 18446744073709551616", body=SMUGGLED),
    "over 64 bits by much": framed(b"Content-Length: " + b"9" * 400, body=SMUGGLED),
    "nul in a name": framed(b"X\0Y: 1", LENGTH, body=RED + SMUGGLED),
    "nul in a value": framed(b"X: 1\x002", LENGTH, body=RED + SMUGGLED),
    "no colon": framed(b"Content-Length 16", LENGTH, body=RED + SMUGGLED),
    "no name": framed(b": 16", LENGTH, body=RED + SMUGGLED),
    "cr alone": framed(b"X: 1\rTransfer-Encoding: chunked", LENGTH, body=RED + SMUGGLED),
    "chunk without end": framed(b"Transfer-Encoding: chunked", body=b"5\r\n12345670\r\n\r\n" + SMUGGLED),
    "chunk of a negative size": framed(
        b"Transfer-Encoding: chunked", body=b"-5\r\n12345\r\n0\r\n\r\n" + SMUGGLED
    ),
    "chunk of 0x": framed(b"Transfer-Encoding: chunked", body=b"0x5\r\n12345\r\n0\r\n\r\n" + SMUGGLED),
    "chunk over 64 bits": framed(b"Transfer-Encoding: chunked", body=b"1" + b"0" * 16 + b"\r\nx" + SMUGGLED),
    "chunk ended by a line feed": framed(b"Transfer-Encoding: chunked", body=b"5\n12345\n0\n\n" + SMUGGLED),
    "version 9": b"POST /predict/colours HTTP/9.9\r\nHost: x\r\n\r\n" + SMUGGLED,
    "http 2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + SMUGGLED,
    "tls": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(64) + SMUGGLED,
    "nul in the path": b"GET /\0 HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "spaces in the path": b"GET /a b HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "8 bits in the path": b"GET /\xff\xfe HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
    "made-up method": b"G\x7fT / HTTP/1.1\r\nHost: x\r\n\r\n" + SMUGGLED,
}


@pytest.mark.parametrize("name", TWO_WAYS)
def test_what_two_readers_could_frame_differently_is_refused_and_nothing_follows(
    target: Target, name: str
) -> None:
    """A proxy that reads the frame in the other way would have let the second request through."""
    with target.connect() as sock:
        send(sock, [TWO_WAYS[name]])
        replies = read(sock, ["POST", "GET"])
        assert [reply.status for reply in replies] in ([], [400], [501], [505]), replies
        assert closes(sock)


def test_a_request_inside_a_body_stays_a_body(target: Target) -> None:
    body = SMUGGLED * 3
    replies = target.talk(post(PREDICT, body), get("/v2/health/live"), methods=("POST", "GET", "GET")[:2])
    assert [reply.status for reply in replies] == [415, 200]


def test_lengths_that_lie(target: Target) -> None:
    """Too long: the server waits, and nothing happens when the rest never comes. Too short: noise follows."""
    for length in (len(RED) + 1, 60 << 20):
        with target.connect() as sock:
            sock.sendall(head("POST", PREDICT, content_length=length) + RED)
    with target.connect() as sock:
        sock.sendall(head("POST", PREDICT, content_length=len(RED) // 2) + RED)
        replies = read(sock, ["POST", "POST"])
        assert [reply.status for reply in replies] in ([400], [400, 400])
        assert closes(sock)


def test_a_body_over_the_limit_is_refused_before_it_is_read(target: Target) -> None:
    """64 MiB is the limit: what is announced beyond it is not waited for, and not asked for by a 100."""
    for length in (65 << 20, 1 << 40, (1 << 63) - 1):
        for expect in ({}, {"expect": "100-continue"}):
            reply = target.one(head("POST", PREDICT, content_length=length, **expect))
            assert reply.status == 413, (length, expect)


def test_a_flood_of_tiny_chunks_is_read_or_refused_but_harms_nobody(target: Target) -> None:
    """CVE-2025-23310: 3 MB of 6-byte chunks took Triton's stack."""
    before = psutil.Process(target.pid).memory_info().rss
    start = head("POST", PREDICT, transfer_encoding="chunked")
    reply = target.one(start, b"1\r\nx\r\n" * 500_000, b"0\r\n\r\n")
    assert reply.status in (400, 413, 415)
    tiny = b"".join(b"1\r\n%c\r\n" % byte for byte in RED)
    assert target.one(start, tiny, b"0\r\n\r\n").status == 200
    assert psutil.Process(target.pid).memory_info().rss - before < 64 << 20


@pytest.mark.parametrize("extension", [b";" + b"x" * 200_000, b";x=" + b'"' + b"y" * 200_000 + b'"'])
def test_long_chunk_extensions_are_not_kept(target: Target, extension: bytes) -> None:
    start = head("POST", PREDICT, transfer_encoding="chunked")
    replies = target.talk(start, b"1" + extension + CRLF + b"x\r\n0\r\n\r\n")
    assert [reply.status for reply in replies] in ([], [400], [413], [415], [431])


def test_trailers_change_nothing(target: Target) -> None:
    trailers = b"Content-Length: 3\r\nAuthorization: Bearer x\r\nHost: evil\r\n"
    body = b"%x\r\n%b\r\n0\r\n%b\r\n" % (len(RED), RED, trailers)
    start = head("POST", PREDICT, transfer_encoding="chunked")
    replies = target.talk(start, body, get("/v2/health/live"), methods=("POST", "GET"))
    assert [reply.status for reply in replies] in ([200, 200], [400])


def test_a_thousand_pipelined_requests_are_answered_in_order(target: Target) -> None:
    paths = [f"/predict/none{number}" for number in range(1000)]
    replies = target.talk(*(post(path, b"x") for path in paths), methods=["POST"] * 1000)
    for number, reply in enumerate(replies):
        assert reply.status == 404 and f"'none{number}'" in reply.error
    assert len(replies) == 1000


def test_who_asks_and_never_reads_is_not_answered_without_end(target: Target) -> None:
    """Replies wait for their reader, and so do the requests behind them: memory does not grow."""
    before = psutil.Process(target.pid).memory_info().rss
    request = get("/api/models/colours") * 200
    with target.connect() as sock:
        sock.settimeout(2)
        sent = 0
        try:
            while sent < 256 << 20:
                sent += sock.send(request)
        except (TimeoutError, ConnectionError):
            pass
        assert sent < 64 << 20, "the server read everything"
        check_health(target)
        assert psutil.Process(target.pid).memory_info().rss - before < 64 << 20


ODD = {
    "absolute": (b"GET http://evil.example/v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "GET"),
    "authority": (b"CONNECT evil.example:443 HTTP/1.1\r\nHost: evil.example:443\r\n\r\n", "CONNECT"),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n", "OPTIONS"),
    "trace": (b"TRACE / HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer secret\r\n\r\n", "TRACE"),
    "websocket": (
        get(
            "/v2/models/colours",
            upgrade="websocket",
            connection="Upgrade",
            sec_websocket_version="13",
            sec_websocket_key="dGhlIHNhbXBsZSBub25jZQ==",
        ),
        "GET",
    ),
    "h2c": (
        get("/v2/none", upgrade="h2c", connection="Upgrade, HTTP2-Settings", http2_settings="AAMA"),
        "GET",
    ),
}


@pytest.mark.parametrize(
    "line", [b"GET /\r\n\r\n", b"GET / HTTP/0.9\r\n\r\n", b"GET / HTTP/2.0\r\nHost: x\r\n\r\n"]
)
def test_versions_that_are_not_spoken_are_refused(target: Target, line: bytes) -> None:
    replies = target.talk(line + SMUGGLED, methods=("GET", "GET"))
    assert [reply.status for reply in replies] in ([], [400], [505])


@pytest.mark.parametrize(
    "hosts", [b"", b"Host: a\r\nHost: b\r\n", b"Host: a, b\r\n", b"Host: a b\r\n", b"Host: a/b\r\n"]
)
def test_a_request_names_one_host(target: Target, hosts: bytes) -> None:
    """RFC 9112, 3.2: none or several is 400, since two readers could choose differently."""
    replies = target.talk(b"GET /v2/health/live HTTP/1.1\r\n" + hosts + b"\r\n", methods=("GET",))
    assert [reply.status for reply in replies] in ([400], [403])


@pytest.mark.parametrize(
    "flood",
    [
        b"GET /" + b"x" * (1 << 20),
        b"GET / HTTP/1.1\r\n" + b"X: 1\r\n" * 100_000,
        b"GET / HTTP/1.1\r\nX: " + b"x" * (1 << 20),
        b"GET / HTTP/1.1\r\n" + b"x" * (1 << 20),
        b"GET / HTTP/1.1\r\n" + b"Cookie: a=b\r\n" * 2000 + b"Host: 127.0.0.1\r\n\r\n",
        b"\r\n" * (1 << 19),
    ],
    ids=["path", "headers", "value", "name", "many small ones", "empty lines"],
)
def test_heads_have_a_limit(target: Target, flood: bytes) -> None:
    with target.connect() as sock:
        send(sock, [flood])
        replies = read(sock, ["GET"])
        assert [reply.status for reply in replies] in ([], [400], [408], [414], [431])
        assert closes(sock)


MAX_HEAD = 64 << 10
HEALTH = "/v2/health/live"


def sized(size: int, method: str = "GET", **headers: object) -> bytes:
    """A request's head of exactly so many bytes."""
    return head(method, HEALTH, **headers, x="x" * (size - len(head(method, HEALTH, **headers, x=""))))


def in_pieces(data: bytes, size: int) -> list[bytes]:
    return [data[start : start + size] for start in range(0, len(data), size)]


@pytest.mark.parametrize("piece", [1 << 20, 50_000, 1000], ids=["whole", "in two", "in many"])
@pytest.mark.parametrize(
    ("size", "status"),
    [(MAX_HEAD, 200), (MAX_HEAD + 1, 431), (66_000, 431), (80_000, 431), (110_000, 431), (200_000, 431)],
)
def test_the_limit_of_a_head_is_the_same_however_it_comes(
    target: Target, size: int, status: int, piece: int
) -> None:
    with target.connect() as sock:
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for each in in_pieces(sized(size), piece):
            send(sock, [each])
            time.sleep(0.001)
        assert [reply.status for reply in read(sock, ["GET"])] == [status]


def test_many_small_fields_are_counted_as_well(target: Target) -> None:
    fields = {f"x_{number:03}": "x" * 1000 for number in range(80)}
    assert target.one(head("GET", HEALTH, **fields), method="GET").status == 431
    same = b"GET /v2/health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n" + (b"y" * 700 + b": x\r\n") * 95 + CRLF
    assert target.one(same, method="GET").status == 431


@pytest.mark.parametrize("piece", [1 << 20, 30_000], ids=["whole", "in pieces"])
def test_of_pipelined_requests_each_has_the_limit_for_itself(target: Target, piece: int) -> None:
    fine, large = sized(50_000), sized(80_000)
    body = sized(60_000, "POST", content_length=60_000) + bytes(60_000)
    for requests, answered in (
        ([fine, fine, fine], [200, 200, 200]),
        ([get(HEALTH), large, fine], [200]),
        ([fine, large, fine], [200]),
        ([body, fine, fine], [405, 200, 200]),
        ([body, large, fine], [405]),
    ):
        methods = [each[:4].decode().strip() for each in requests]
        replies = target.talk(*in_pieces(b"".join(requests), piece), methods=methods)
        statuses = [reply.status for reply in replies]
        assert statuses == answered or (large in requests and statuses == [*answered, 431])


def test_what_comes_behind_a_body_in_chunks_is_not_kept_without_end(target: Target) -> None:
    before = psutil.Process(target.pid).memory_info().rss
    start = head("POST", PREDICT, transfer_encoding="chunked") + b"1\r\nx\r\n0\r\nX: "
    replies = target.talk(start, *[b"x" * (1 << 18)] * 128)
    assert [reply.status for reply in replies] == [431]
    assert psutil.Process(target.pid).memory_info().rss - before < 16 << 20
    fine = start + b"x" * 50_000 + CRLF * 2
    assert [reply.status for reply in target.talk(fine)] == [415]


@pytest.mark.parametrize("name", ODD)
def test_this_is_no_proxy_and_no_tunnel(target: Target, name: str) -> None:
    request, method = ODD[name]
    if method == "CONNECT":  # a parser takes what follows a 2xx to CONNECT for a tunnel
        method = "GET"
    replies = target.talk(request, methods=(method,))
    for reply in replies:
        assert reply.status in (200, 400, 403, 404, 405, 421, 501), reply
        assert b"secret" not in reply.body and "upgrade" not in reply.headers
    assert name in ("absolute", "websocket") or not [r for r in replies if r.status == 200]
