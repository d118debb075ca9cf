"""ModelStreamInfer: many requests and answers on one call, answered in the order in which they came.

An error is an answer too, with `error_message` and the request's id. A caller that sends the metadata
`triton_grpc_error: true` wants the first error as the status of the call instead, which ends it.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

from ...errors import Unauthorized
from ...protos import open_inference as oi
from ..dialects.protobuf import varint
from .answers import read_message
from .status import refusal

Answer = Callable[[bytes], Awaitable[bytes]]
"""From a ModelInferRequest to its ModelInferResponse."""

_last = oi.ModelInferResponse()
_last.parameters["triton_final_response"].bool_param = True
FINAL = _last.SerializeToString()
"""What Triton's clients call the final response: here every one is, there is one for each request."""


IN_FLIGHT = 128
"""Requests of one stream that are worked on or wait to be written; the next is read when one leaves."""
BYTES_IN_FLIGHT = 64 << 20
"""Bytes of them, unless it is one request alone."""


async def answer_stream(
    answer: Answer,
    requests: AsyncIterator[bytes],
    write: Callable[[bytes], Awaitable[None]],
    *,
    strict: bool,
) -> None:
    """Answer until the caller has sent its last request; on cancellation nothing is left running.

    Args:
        strict: whether the first error ends the call.

    Raises:
        Exception: with `strict`, that of the first request that failed; without, only a caller who has no
            right to be here.
    """
    work: asyncio.Queue[tuple[asyncio.Task[bytes], int] | None] = asyncio.Queue()
    room = _Room()

    async def read() -> None:
        try:
            async for data in requests:
                size = len(data)
                await room.enter(size)
                work.put_nowait((asyncio.ensure_future(_one(answer, data, strict)), size))
        finally:
            work.put_nowait(None)

    reader = asyncio.ensure_future(read())
    try:
        while (current := await work.get()) is not None:
            answered, size = current
            await write(await answered)
            room.leave(size)
        await reader
    finally:
        left: list[asyncio.Future[Any]] = [reader]
        while not work.empty():
            if (waiting := work.get_nowait()) is not None:
                left.append(waiting[0])
        for task in left:
            task.cancel()
        # Their ends are awaited, so that nothing of this call runs on and no error is left unlooked at.
        await asyncio.gather(*left, return_exceptions=True)


class _Room:
    """How many requests of a stream are worked on, and how many bytes."""

    __slots__ = ("_bytes", "_left", "_requests")

    def __init__(self) -> None:
        self._requests = self._bytes = 0
        self._left = asyncio.Event()

    async def enter(self, size: int) -> None:
        """Wait until there is room for a request of `size` bytes."""
        while self._requests and (self._requests >= IN_FLIGHT or self._bytes + size > BYTES_IN_FLIGHT):
            self._left.clear()
            await self._left.wait()
        self._requests += 1
        self._bytes += size

    def leave(self, size: int) -> None:
        """A request was answered."""
        self._requests -= 1
        self._bytes -= size
        self._left.set()


async def _one(answer: Answer, data: bytes, strict: bool) -> bytes:
    """The bytes of a ModelStreamInferResponse."""
    try:
        reply = await answer(data)
    except Exception as problem:
        if strict or isinstance(problem, Unauthorized):
            raise
        _, words, _ = refusal(problem, "ModelStreamInfer")
        request = read_message(data)
        failed = oi.ModelInferResponse(model_name=request.model_name, id=request.id)
        failed.parameters["triton_final_response"].bool_param = True
        return oi.ModelStreamInferResponse(error_message=words, infer_response=failed).SerializeToString()
    # Field 2 of the answer, which is the reply with one more parameter: a message may be written in pieces.
    return b"".join((b"\x12", varint(len(reply) + len(FINAL)), reply, FINAL))
