"""Compressed bodies, both ways: the codings themselves, their limits, and a server that speaks them."""

from __future__ import annotations

import gzip
import random
import tracemalloc
import zlib

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from modelport.errors import InputError, ModelportError, TooLarge, UnsupportedMedia
from modelport.serve.body import read_body
from modelport.serve.compress import (
    MAX_MEMBERS,
    MIN_BYTES,
    PACK_INLINE,
    UNPACK_INLINE,
    choose_encoding,
    compress,
    decompress,
    worth_it,
)
from modelport.serve.replies import CompressReplies

TEXT = b'{"inputs": [1, 2, 3]} ' * 200


def raw_deflate(data: bytes) -> bytes:
    stream = zlib.compressobj(6, zlib.DEFLATED, -15)
    return stream.compress(data) + stream.flush()


@given(st.binary(max_size=5000), st.sampled_from(["gzip", "deflate"]))
def test_what_is_compressed_comes_back(data: bytes, coding: str) -> None:
    assert decompress(compress(data, coding), coding, len(data)) == data


@given(st.binary(max_size=500), st.integers(0, 9))
def test_deflate_is_read_with_and_without_its_wrapping(data: bytes, level: int) -> None:
    assert decompress(zlib.compress(data, level), "deflate", 500) == data
    stream = zlib.compressobj(level, zlib.DEFLATED, -15)
    assert decompress(stream.compress(data) + stream.flush(), "Deflate", 500) == data


def test_gzip_may_have_members_but_not_too_many() -> None:
    assert decompress(gzip.compress(b"one ") + gzip.compress(b"two"), "x-gzip", 7) == b"one two"
    assert decompress(gzip.compress(b"") * MAX_MEMBERS, "gzip", 0) == b""
    with pytest.raises(InputError, match="members"):
        decompress(gzip.compress(b"") * (MAX_MEMBERS + 1), "gzip", 10)
    with pytest.raises(TooLarge):
        decompress(gzip.compress(b"one ") + gzip.compress(b"two"), "gzip", 6)


@pytest.mark.parametrize("pack", [gzip.compress, zlib.compress, raw_deflate])
def test_a_bomb_is_refused_without_its_memory(pack: object) -> None:
    coding = "gzip" if pack is gzip.compress else "deflate"
    assert callable(pack)
    bomb = pack(bytes(200 << 20))
    assert len(bomb) < 300_000
    tracemalloc.start()
    with pytest.raises(TooLarge):
        decompress(bomb, coding, 1 << 20)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 4 << 20
    exact = pack(bytes(1 << 20))
    assert len(decompress(exact, coding, 1 << 20)) == 1 << 20
    with pytest.raises(TooLarge):
        decompress(exact, coding, (1 << 20) - 1)


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_damage_is_an_input_error_wherever_it_is(coding: str) -> None:
    good = compress(TEXT, coding)
    for cut in range(len(good)):
        with pytest.raises(InputError):
            decompress(good[:cut], coding, 1 << 20)
    for extra in (b"x", b"\x1f\x8b", good[:-1]):
        with pytest.raises(InputError):
            decompress(good + extra, coding, 1 << 20)
    rng = random.Random(7)
    for _ in range(300):
        bad = bytearray(good)
        bad[rng.randrange(len(bad))] ^= 1 << rng.randrange(8)
        try:
            decompress(bytes(bad), coding, 1 << 20)
        except InputError:
            continue  # anything else than an answer or this refusal fails the test


@pytest.mark.parametrize("coding", ["br", "zstd", "gzip, gzip", "deflate,gzip", "gzip, identity", "gzip;q=1"])
def test_other_codings_and_chains_are_refused(coding: str) -> None:
    with pytest.raises(UnsupportedMedia, match="Content-Encoding"):
        decompress(TEXT, coding, 1 << 20)


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, None),
        ("", None),
        ("identity", None),
        ("br, zstd", None),
        ("gzip", "gzip"),
        ("GZip", "gzip"),
        ("x-gzip", "gzip"),
        ("deflate", "deflate"),
        ("gzip, deflate, br", "gzip"),
        ("deflate, gzip", "gzip"),
        ("deflate, gzip;q=0.9", "deflate"),
        ("gzip;q=0.2, deflate;q=0.201", "deflate"),
        ("*", "gzip"),
        ("gzip;q=0, *", "deflate"),
        ("*;q=0, gzip;q=0.1", "gzip"),
        ("gzip;q=0", None),
        ("gzip; q=0.000", None),
        ("gzip;q=0.5, identity", None),
        ("gzip;q=0.5, identity;q=0.4", "gzip"),
        ("gzip;q=1.1", None),
        ("gzip;q=-1", None),
        ("gzip;q=0.1234", None),
        ("gzip;q=nan", None),
        ("gzip;q=1e0", None),
        ("gzip;level=9", None),
        (",,;;,=", None),
    ],
)
def test_the_coding_of_a_reply(accept: str | None, chosen: str | None) -> None:
    assert choose_encoding(accept) == chosen


@given(st.text(max_size=60))
def test_no_accept_encoding_breaks_the_choice(accept: str) -> None:
    assert choose_encoding(accept) in ("gzip", "deflate", None)


def test_only_what_gets_smaller_is_worth_it() -> None:
    noise = random.Random(1).randbytes(8000)
    assert worth_it(TEXT, "application/json") and worth_it(TEXT, "text/html")
    assert not worth_it(b"x" * (MIN_BYTES - 1), "application/json")
    assert worth_it(b"x" * MIN_BYTES, "application/json")
    assert not worth_it(TEXT, "image/png") and not worth_it(TEXT, None)
    assert worth_it(bytes(8000), "application/octet-stream")
    assert not worth_it(noise, "application/octet-stream")


async def echo(request: Request) -> Response:
    body = await read_body(request, 1 << 20)
    kind = request.headers.get("content-type", "application/json")
    return Response(body, media_type=kind, headers={"ETag": '"1"'})


async def stream(request: Request) -> Response:
    async def parts() -> object:
        yield TEXT
        yield TEXT

    return StreamingResponse(parts(), media_type="application/json")  # type: ignore[arg-type]


async def refused(request: Request, problem: Exception) -> Response:
    assert isinstance(problem, ModelportError)
    return Response(str(problem), problem.http_status)


@pytest.fixture
async def http() -> httpx.AsyncClient:
    app = Starlette(
        routes=[Route("/echo", echo, methods=["POST", "HEAD"]), Route("/stream", stream)],
        exception_handlers={ModelportError: refused},
    )
    app.add_middleware(CompressReplies)
    return httpx.AsyncClient(
        transport=httpx.ASGITransport(app), base_url="http://here", headers={"Accept-Encoding": ""}
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
@pytest.mark.parametrize("size", [10, UNPACK_INLINE, 40 * PACK_INLINE // 2])
async def test_bodies_both_ways_inline_and_in_a_thread(
    http: httpx.AsyncClient, coding: str, size: int
) -> None:
    body = random.Random(size).randbytes(size).hex().encode()[:size]
    headers = {"Content-Encoding": coding, "Accept-Encoding": coding}
    reply = await http.post("/echo", content=compress(body, coding), headers=headers)
    assert reply.status_code == 200 and reply.content == body
    assert reply.headers["vary"] == "Accept-Encoding"
    assert reply.headers.get("content-encoding") == (coding if size >= MIN_BYTES else None)
    assert reply.headers["etag"] == ('W/"1"' if size >= MIN_BYTES else '"1"')


async def test_replies_that_stay_as_they_are(http: httpx.AsyncClient) -> None:
    asks = {"Accept-Encoding": "gzip"}
    assert "content-encoding" not in (await http.post("/echo", content=TEXT)).headers
    picture = await http.post("/echo", content=TEXT, headers={**asks, "Content-Type": "image/png"})
    assert "content-encoding" not in picture.headers and "vary" not in picture.headers
    streamed = await http.get("/stream", headers=asks)
    assert "content-encoding" not in streamed.headers and streamed.content == TEXT * 2
    head = await http.request("HEAD", "/echo", headers=asks)
    assert "content-encoding" not in head.headers


async def test_what_a_body_may_not_be(http: httpx.AsyncClient) -> None:
    async def status(body: bytes, encoding: str) -> int:
        return (await http.post("/echo", content=body, headers={"Content-Encoding": encoding})).status_code

    assert await status(gzip.compress(bytes(1 << 20)), "gzip") == 200
    assert await status(gzip.compress(bytes((1 << 20) + 1)), "gzip") == 413
    assert await status(gzip.compress(b"x") + b"more", "gzip") == 400
    assert await status(b"not gzip", "gzip") == 400
    assert await status(gzip.compress(gzip.compress(b"x")), "gzip, gzip") == 415
    assert await status(b"x", "br") == 415
    assert await status(b"x", "identity") == 200
    two = [("Content-Encoding", "gzip"), ("Content-Encoding", "gzip")]
    assert (await http.post("/echo", content=b"x", headers=two)).status_code == 415
