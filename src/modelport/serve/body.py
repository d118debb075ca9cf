"""Request bodies, read within a limit, and the file inside a multipart form."""

from __future__ import annotations

import base64
import binascii
from collections.abc import AsyncGenerator
from typing import Any

import msgspec
from starlette.datastructures import Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import InputError, TooLarge, UnsupportedMedia


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, at most `limit` bytes.

    Raises:
        TooLarge: announced or found to be longer; what is over the limit is never kept.
        UnsupportedMedia: a Content-Encoding.
    """
    encoding = request.headers.get("content-encoding", "identity")
    if encoding.lower() != "identity":
        raise UnsupportedMedia(
            f"Content-Encoding {encoding[:40]!r} is not read here", hint="send the body uncompressed"
        )
    announced = request.headers.get("content-length", "0")
    if announced.isdigit() and int(announced) > limit:
        raise TooLarge(f"the body is {announced} bytes; at most {limit} are read")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


async def multipart_file(body: bytes, headers: Headers) -> bytes:
    """The bytes of the form's field `file` (or of its only file).

    Raises:
        InputError: not a multipart form, or no file in it.
    """
    try:
        form = await MultiPartParser(
            headers, _once(body), max_files=8, max_fields=16, max_part_size=1 << 20
        ).parse()
    except (MultiPartException, KeyError, ValueError) as problem:
        raise InputError(f"the multipart form is malformed: {problem}") from problem
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        chosen = form.get("file")
        upload = chosen if isinstance(chosen, UploadFile) else files[0] if len(files) == 1 else None
        if upload is None:
            raise InputError(
                f"the form has {len(files)} files and none in the field `file`",
                hint="curl -F file=@picture.png …",
            )
        return await upload.read()
    finally:
        await form.close()


def decode_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: not JSON, or not an object.
    """
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"the body is not a JSON object: {problem}", hint='send {"image": "<base64>"}, or the file itself'
        ) from problem


def decode_base64(text: Any, at: str) -> bytes:
    """Base64 text, with or without a `data:` prefix.

    Raises:
        InputError: not a string, or not base64.
    """
    if not isinstance(text, str):
        raise InputError("expected base64 text", at=at)
    if text.startswith("data:"):
        text = text.partition(",")[2]
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as problem:
        raise InputError(f"not base64: {problem}", at=at) from problem


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
