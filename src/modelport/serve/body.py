"""Request bodies, read and unpacked within a limit, and the item inside a form or JSON."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, TypeVar
from urllib.parse import parse_qsl

import msgspec
from starlette.datastructures import FormData, Headers, UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from ..errors import InputError, QueueFull, TooLarge
from ..tensors import check_json
from .aside import aside
from .base64_text import decode_base64
from .compress import MAX_RATIO, UNPACK_INLINE, coding_of, decompress
from .exchange import Exchange
from .form import MAX_PARTS, boundary_of, too_many_parts
from .memory import BodyMemory

# Of a malformed form it writes a line each time, in the caller's own words; the caller is told already.
logging.getLogger("python_multipart").setLevel(logging.CRITICAL)


T = TypeVar("T")


class Item(msgspec.Struct, frozen=True):
    """The one item of a body, and the fields beside it."""

    data: bytes
    fields: dict[str, Any] = {}
    """A form's other fields, or the JSON's `parameters`."""
    is_text: bool = False
    """Whether it is the text of a form's field, and no file."""


class _Picture(msgspec.Struct):
    image: str
    parameters: msgspec.Raw = msgspec.Raw()


class _Parameters(msgspec.Struct):
    parameters: msgspec.Raw = msgspec.Raw()


MAX_FORM_FIELDS = 1000
"""Fields of a form that is a row of a table."""
MAX_PARAMETERS = 4 << 10
"""Bytes of JSON that `parameters` may take."""


async def read_body(request: Request, limit: int) -> bytes:
    """The whole body, uncompressed, at most `limit` bytes.

    Raises:
        TooLarge: announced or found to be longer, as it came or unpacked; what is over the limit is
            never kept.
        InputError: damaged compression. UnsupportedMedia: a Content-Encoding other than gzip and deflate.
        QueueFull: unpacked, all bodies together would be too much.
    """
    encoding = content_encoding(request.headers)
    coding_of(encoding)  # refused before the body is read
    exchange: Exchange | None = getattr(request.state, "exchange", None)
    return await unpacked(await read_wire(request, limit), encoding, limit, exchange)


async def read_wire(request: Request, limit: int) -> bytes:
    """The body as it came, at most `limit` bytes.

    Raises:
        TooLarge: announced or found to be longer; what is over the limit is never kept.
    """
    announced = request.headers.get("content-length", "0")
    if announced.isascii() and announced.isdecimal() and int(announced[:20]) > limit:
        raise TooLarge(f"the body is {announced[:20]} bytes; at most {limit} are read")
    chunks: list[bytes] = []
    size = 0
    async for chunk in request.stream():
        size += len(chunk)
        if size > limit:
            raise TooLarge(f"the body is over {limit} bytes")
        chunks.append(chunk)
    return b"".join(chunks)


def content_encoding(headers: Headers) -> str:
    """Content-Encoding, all its fields in one; empty where there is none."""
    return ", ".join(headers.getlist("content-encoding"))


async def unpacked(body: bytes, encoding: str, limit: int, exchange: Exchange | None = None) -> bytes:
    """`body` decompressed, in a thread where that may take long; `encoding` as `decompress` takes it.

    Args:
        exchange: the request whose body it is; what it unpacks to is counted until that is answered.

    Raises:
        TooLarge, InputError, UnsupportedMedia: as `decompress`.
        QueueFull: all bodies together would be too much.
    """
    if coding_of(encoding) is None:
        return body
    try:
        if len(body) <= UNPACK_INLINE:
            data = decompress(body, encoding, limit)
        elif exchange is None:
            data = await asyncio.to_thread(decompress, body, encoding, limit)
        else:
            data = await _unpacked_in_turn(body, encoding, limit, exchange.server.memory)
    except QueueFull:
        if exchange is not None:
            exchange.counted = True  # by the memory
        raise
    if exchange is not None:
        exchange.hold(len(data))
    return data


async def _unpacked_in_turn(body: bytes, encoding: str, limit: int, memory: BodyMemory) -> bytes:
    """`body` decompressed in a thread; the most that it may become is counted while it does.

    A thread cannot be stopped, so that its turn and what it takes end with it and not with its caller.
    """
    most = min(limit, MAX_RATIO * len(body))
    await memory.unpacking.acquire()
    try:
        memory.take(most)
    except QueueFull:
        memory.unpacking.release()
        raise
    work = asyncio.ensure_future(asyncio.to_thread(decompress, body, encoding, limit))

    def done(work: asyncio.Future[bytes]) -> None:
        memory.give_back(most)
        memory.unpacking.release()
        if not work.cancelled():
            work.exception()  # whoever asked may be gone

    work.add_done_callback(done)
    return await asyncio.shield(work)


async def encoded_item(body: bytes, headers: Headers, *, picture: bool, fields: bool = False) -> Item:
    """The one item that a body holds: the file itself, a form's file, or the base64 in a JSON object.

    Args:
        headers: those of the request; Content-Type tells a form and JSON from a file.
        picture: whether the item is a picture; then JSON is `{"image": base64}`, else it is the item.
        fields: whether to read what else the body says; else that is passed over.

    Raises:
        InputError: an empty body, a malformed form, or JSON without a picture.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind == "multipart/form-data":
        return await multipart_item(body, headers)
    if not body:
        raise InputError("the body is empty", hint="send a picture: curl --data-binary @picture.png …")
    if kind != "application/json":
        return Item(body)
    if picture:
        return await off_loop(lambda data: _picture(data, fields), body)
    return Item(body, await off_loop(_parameters, body) if fields else {})


async def off_loop(work: Callable[[bytes], T], data: bytes) -> T:
    """`work(data)`, in a thread where it takes long (`aside`)."""
    return await aside(lambda: work(data), len(data))


def _picture(body: bytes, fields: bool) -> Item:
    try:
        # Only the one field is built: what else a body holds costs no memory.
        data = msgspec.json.decode(body, type=_Picture)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f'expected JSON, {{"image": "<base64 of an image file>"}}: {problem}',
            hint="or send the file itself",
        ) from problem
    return Item(decode_base64(data.image, "$.image"), _fields(data.parameters) if fields else {})


def _parameters(body: bytes) -> dict[str, Any]:
    """The `parameters` beside tensors; what is no JSON object is judged by whoever reads the tensors."""
    try:
        return _fields(msgspec.json.decode(body, type=_Parameters).parameters)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return {}


def _fields(raw: msgspec.Raw) -> dict[str, Any]:
    """`parameters` as values by name.

    Raises:
        InputError: no object, or longer than options ever are.
    """
    text = bytes(raw)
    if not text or text == b"null":
        return {}
    if len(text) > MAX_PARAMETERS:
        raise InputError(f"{len(text)} bytes of parameters; at most {MAX_PARAMETERS}", at="$.parameters")
    try:
        return msgspec.json.decode(text, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(f"expected an object: {problem}", at="$.parameters") from problem


async def multipart_item(body: bytes, headers: Headers, *, texts: Sequence[str] = ()) -> Item:
    """The bytes of the form's field `file` (or of its only file), and its other fields.

    Args:
        texts: the fields of which the first that is there is the item, where the form has no file.

    Raises:
        InputError: not a multipart form, or no file in it.
    """
    form = await _multipart(body, headers, 16)
    try:
        files = [value for _, value in form.multi_items() if isinstance(value, UploadFile)]
        named = [value for value in form.getlist("file") if isinstance(value, UploadFile)]
        if len(named) > 1:
            raise InputError(
                f"the form has {len(named)} files in the field `file`; a request holds one item",
                hint="send a request for each; the server puts them into batches",
            )
        fields = {name: value for name, value in form.multi_items() if isinstance(value, str)}
        if not files and (field := next((name for name in texts if name in fields), None)):
            return Item(fields.pop(field).encode(), fields, True)
        chosen = form.get("file")
        upload = chosen if isinstance(chosen, UploadFile) else files[0] if len(files) == 1 else None
        if upload is None:
            raise InputError(
                f"the form has {len(files)} files and none in the field `file`",
                hint=f"curl -F {texts[0] if texts else 'file'}=@picture.png …",
            )
        return Item(await upload.read(), fields)
    finally:
        await form.close()


async def _multipart(body: bytes, headers: Headers, fields: int) -> FormData:
    """The parts of a multipart form, at most 8 files and so many fields beside them.

    Raises:
        InputError: malformed, or more parts than that.
    """
    if too_many_parts(body, boundary_of(headers.get("content-type", "").encode("latin-1"))):
        raise InputError(f"the multipart form has more than {MAX_PARTS} parts")
    try:
        form = await MultiPartParser(
            headers, _once(body), max_files=8, max_fields=fields, max_part_size=1 << 20
        ).parse()
        for pair in form.multi_items():
            # The form names its coding itself, and UTF-7 says halves of pairs, which no reply can.
            "".join(each for each in pair if isinstance(each, str)).encode()
        return form
    except (MultiPartException, KeyError, ValueError) as problem:
        raise InputError(f"the multipart form is malformed: {problem}") from problem


async def form_fields(body: bytes, headers: Headers) -> dict[str, str]:
    """The fields of a form, urlencoded or multipart; a file counts as its text.

    Raises:
        InputError: malformed, a field that comes twice, or one that is not UTF-8.
    """
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    try:
        if kind != "multipart/form-data":
            pairs = parse_qsl(
                body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FORM_FIELDS
            )
        else:
            form = await _multipart(body, headers, MAX_FORM_FIELDS)
            try:
                pairs = [
                    (name, value if isinstance(value, str) else (await value.read()).decode())
                    for name, value in form.multi_items()
                ]
            finally:
                await form.close()
    except ValueError as problem:
        raise InputError(f"the form is malformed: {problem}") from problem
    found = dict(pairs)
    if len(found) != len(pairs):
        raise InputError("a field of the form comes twice")
    return found


def decode_json(body: bytes) -> dict[str, Any]:
    """A JSON object.

    Raises:
        InputError: not JSON, or not an object.
    """
    check_json(body)
    try:
        return msgspec.json.decode(body, type=dict[str, Any])
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as problem:
        raise InputError(
            f"the body is not a JSON object: {problem}", hint='send {"image": "<base64>"}, or the file itself'
        ) from problem


async def _once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
