"""Replies compressed where the caller asks for it and it pays: an ASGI layer around the application."""

from __future__ import annotations

import asyncio

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .compress import PACK_INLINE, choose_encoding, compress, compressible, worth_it

_BODILESS = frozenset([204, 206, 304])  # 206 holds a part of the bytes that its ETag names


async def packed(body: bytes, accept: str | None, media_type: str | None) -> tuple[bytes, str | None]:
    """A reply's body in the coding that its caller wants, and that coding; as it is and None where none.

    Args:
        accept: the request's Accept-Encoding.
        media_type: the reply's Content-Type; its parameters do not matter.
    """
    coding = choose_encoding(accept)
    if coding is None or not worth_it(body, _kind(media_type)):
        return body, None
    if len(body) <= PACK_INLINE:
        return compress(body, coding), coding
    return await asyncio.to_thread(compress, body, coding), coding


class CompressReplies:
    """Compresses replies that come in one piece; streams pass as they are."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http" or scope["method"] == "HEAD":
            await self.app(scope, receive, send)
            return
        accept = ", ".join(Headers(scope=scope).getlist("accept-encoding"))
        start: Message | None = None

        async def send_packed(message: Message) -> None:
            nonlocal start
            if message["type"] == "http.response.start":
                start = message
                return
            if start is not None:
                head, start = start, None
                whole = message["type"] == "http.response.body" and not message.get("more_body", False)
                if whole and _may_be_packed(scope, head["status"]):
                    message = await _pack(head, message, accept)
                await send(head)
            await send(message)

        await self.app(scope, receive, send_packed)


def _may_be_packed(scope: Scope, status: int) -> bool:
    """Whether all who send an Accept-Encoding with such a request read a compressed reply.

    Triton's asyncio client does not for the Open Inference Protocol: aiohttp adds the field to all that it
    sends, and the client unpacks the answers to `infer` alone, of errors none.
    """
    path = scope["path"]
    if path != "/v2" and not path.startswith("/v2/"):
        return True
    return scope["method"] == "POST" and status == 200 and path.endswith("/infer")


async def _pack(start: Message, message: Message, accept: str) -> Message:
    """The body message of a whole reply, packed, with the headers in `start` made to say so."""
    headers = MutableHeaders(scope=start)
    kind = headers.get("content-type")
    if (
        start["status"] in _BODILESS
        or "content-encoding" in headers
        or "no-transform" in headers.get("cache-control", "")
        or not compressible(_kind(kind))
    ):
        return message
    headers.add_vary_header("Accept-Encoding")
    body, coding = await packed(message.get("body", b""), accept, kind)
    if coding is None:
        return message
    headers["Content-Encoding"] = coding
    headers["Content-Length"] = str(len(body))
    etag = headers.get("etag")
    if etag and not etag.startswith("W/"):
        headers["ETag"] = f"W/{etag}"  # the same content in other bytes (RFC 9110, 8.8.1)
    return {**message, "body": body}


def _kind(media_type: str | None) -> str | None:
    return media_type.partition(";")[0].strip().lower() if media_type else None
