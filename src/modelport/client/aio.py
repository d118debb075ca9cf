"""The client for asyncio: that of sync.py, with await."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterable, AsyncIterator, Iterable, Mapping, Sequence
from types import TracebackType
from typing import Any, Literal, Protocol, Self, TypeVar, overload

from ..errors import ModelportError, Unavailable
from .calls import Call, Parameter, Version, version_parameter
from .core import Core
from .failures import Failed
from .http1 import Encoding
from .items import Item, read_item, slow
from .many import check_many, in_order_async
from .retry import Retries
from .rows import Table
from .settings import DEFAULT_URL, MAX_REPLY, TLS, UNSET, Headers, Settings, Timeout, settings_of
from .streams import HttpStream
from .values import (
    InferResult,
    ModelMetadata,
    ModelState,
    ModelStatistics,
    Output,
    Prediction,
    ServerMetadata,
)

T = TypeVar("T")

POLL = 0.1
"""Seconds between two questions whether a server is ready."""


class AsyncLink(Protocol):
    """Carries one request of a transport and brings its reply."""

    async def send(self, request: Any, deadline: float, about: str) -> Any: ...

    async def close(self) -> None: ...


class AsyncClient:
    """Calls the models of one server, for as many tasks as there are on one event loop.

        async with AsyncClient("http://127.0.0.1:8000") as client:
            print((await client.predict("digits", "photo.png")).top)

    Arguments, answers and errors are those of `Client`. A task that is cancelled closes its connection, and
    the server drops the request.
    """

    def __init__(
        self,
        url: str = DEFAULT_URL,
        *,
        key: str | None = None,
        timeout: float | None = 30.0,
        retries: int | Retries = 2,
        connections: int = 100,
        connect_timeout: float = 5.0,
        headers: Headers | None = None,
        compression: Encoding | None = None,
        tls: TLS | None = None,
        max_reply: int = MAX_REPLY,
    ) -> None:
        """Connects to nothing yet.

        Args:
            url: http://, https://, grpc:// or grpcs://, with host and port.
            key: sent as `Authorization: Bearer KEY`.
            timeout: seconds that a call may take in all, retries included; the server is told, and does
                not compute what nobody waits for. None: no limit.
            retries: further attempts of one call, or the rules for them.
            connections: the most that are open at once; further calls wait for one.
            connect_timeout: seconds for one attempt to connect.
            headers: more of them for every request, or a function that is asked before each.
            compression: of requests' bodies, and asked of replies; it pays on slow networks only.
            tls: what a secure connection is checked with.
            max_reply: the most bytes of one reply.

        Raises:
            UsageError: something of it makes no sense.
        """
        settings = settings_of(
            url,
            key=key,
            timeout=timeout,
            retries=retries,
            connections=connections,
            connect_timeout=connect_timeout,
            headers=headers,
            compression=compression,
            tls=tls,
            max_reply=max_reply,
        )
        self._core = Core(settings)
        self._link = _link(settings)

    def __repr__(self) -> str:
        return f"AsyncClient({str(self._core.settings.address)!r})"

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, problem: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()

    async def close(self) -> None:
        """Close the connections; calls on their way in other tasks are finished."""
        await self._link.close()

    @overload
    async def predict(
        self,
        model: str,
        item: Item,
        *,
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> Prediction: ...

    @overload
    async def predict(
        self,
        model: str,
        item: Table,
        *,
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> list[Prediction]: ...

    async def predict(
        self,
        model: str,
        item: Item | Table,
        *,
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> Prediction | list[Prediction]:
        """Answer one item; of several rows of a table each, together.

        Args:
            item: a path, the bytes of an encoded file or the open file, a Pillow image, pixels as
                uint8[H, W, 3]; a text (`Text("…")`, or a `str` that is no file's name and has white space
                in it); a row as a mapping by column name; several as a list of such, or a data frame; for a
                model that takes tensors one item's array, or arrays by name.
            options: of those that the model offers, what is not to have its default:
                `{"score_threshold": 0.4}`.
        """
        read = await asyncio.to_thread(read_item, item) if slow(item) else read_item(item)
        call: Call[Any] = self._core.calls.predict(model, read, version, options)
        answer: Prediction | list[Prediction] = await self._do(call, timeout)
        return answer

    @overload
    def predict_many(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 8,
        errors: Literal["return"] = "return",
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> AsyncIterator[Prediction | ModelportError]: ...

    @overload
    def predict_many(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 8,
        errors: Literal["raise"],
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> AsyncIterator[Prediction]: ...

    def predict_many(
        self,
        model: str,
        items: Iterable[Item] | AsyncIterable[Item],
        *,
        concurrency: int = 8,
        errors: Literal["return", "raise"] = "return",
        version: Version = None,
        options: Mapping[str, Parameter] | None = None,
        timeout: Timeout = UNSET,
    ) -> AsyncIterator[Prediction | ModelportError]:
        """Answer many items, `concurrency` of them at a time, in their order and as they come.

        Items are taken from `items` only a little ahead of the answers, so there may be any number of them.

        Args:
            errors: "return" gives an item's error in place of its prediction, "raise" ends with the first.
            options, timeout: for each item.
        """
        check_many(concurrency, errors)

        async def one(item: Item) -> Prediction | ModelportError:
            try:
                return await self.predict(model, item, version=version, options=options, timeout=timeout)
            except ModelportError as problem:
                return problem

        return in_order_async(one, items, concurrency, raises=errors == "raise")

    async def infer(
        self,
        model: str,
        inputs: Mapping[str, Any],
        *,
        version: Version = None,
        outputs: Sequence[str | Output] | None = None,
        id: str | None = None,
        timeout: Timeout = UNSET,
        priority: int = 0,
        parameters: Mapping[str, Parameter] | None = None,
    ) -> InferResult:
        """Tensors in, tensors out. `NAME.net` is a bundle's network alone.

        Args:
            inputs: arrays by name, or what NumPy makes an array of; text and bytes become BYTES.
            outputs: those to return, by name or as `Output(name, classification=3)`; None: all.
            id: sent along and given back.
            priority: 1 is the highest; 0 leaves it to the server.
            parameters: further ones of the request.
        """
        call = self._core.calls.infer(
            model,
            inputs,
            version=version,
            outputs=outputs,
            id=id,
            priority=priority,
            parameters=parameters,
        )
        return await self._do(call, timeout)

    async def live(self) -> bool:
        """Whether a server answers at all. Nothing is repeated."""
        return await self._ask(self._core.calls.live()) is None

    async def ready(self, model: str | None = None, *, version: Version = None) -> bool:
        """Whether the server, or one model, would answer now. Nothing is repeated.

        Raises:
            Unauthorized, Forbidden: the question itself is not allowed.
        """
        return await self._ask(self._core.calls.ready(model, version)) is None

    async def wait_until_ready(
        self, model: str | None = None, *, version: Version = None, timeout: float = 60.0
    ) -> None:
        """Return when the server, or one model, is ready.

        Raises:
            Unavailable: not within `timeout` seconds, with what it said last.
        """
        end = time.monotonic() + timeout
        call = self._core.calls.ready(model, version)
        while (problem := await self._ask(call, max(POLL, end - time.monotonic()))) is not None:
            if time.monotonic() + POLL >= end:
                raise Unavailable(f"not ready within {timeout:g} s: {problem}") from problem
            await asyncio.sleep(POLL)

    async def server(self) -> ServerMetadata:
        """Who answers at this address."""
        return await self._do(self._core.calls.server())

    async def metadata(self, model: str, *, version: Version = None) -> ModelMetadata:
        """What a model takes and gives."""
        return await self._do(self._core.calls.metadata(model, version))

    async def models(self) -> tuple[ModelState, ...]:
        """Every version in the server's repository, and its state."""
        return await self._do(self._core.calls.models())

    async def statistics(
        self, model: str | None = None, *, version: Version = None
    ) -> tuple[ModelStatistics, ...]:
        """What a model's versions, or all models, have done since they were loaded."""
        return await self._do(self._core.calls.statistics(model, version))

    async def load(self, model: str, *, version: Version = None, timeout: Timeout = UNSET) -> None:
        """Load a model, or load it anew; needs a server whose management is on, and its key."""
        await self._do(self._core.calls.load(model, version_parameter(version)), timeout)

    async def unload(self, model: str, *, version: Version = None, timeout: Timeout = UNSET) -> None:
        """Take a model out of service; its requests on their way are finished."""
        await self._do(self._core.calls.unload(model, version_parameter(version)), timeout)

    async def _do(self, call: Call[T], timeout: Timeout = UNSET) -> T:
        journey = self._core.begin(call, timeout)
        while True:
            try:
                return journey.answer(await self._link.send(journey.request(), journey.deadline, call.about))
            except (Failed, TimeoutError) as problem:
                pause = journey.after(problem)
            if isinstance(pause, ModelportError):
                try:
                    raise pause
                finally:
                    del pause  # the error holds this frame: no cycle of the two
            await asyncio.sleep(pause)

    async def _ask(self, call: Call[bool], timeout: Timeout = UNSET) -> ModelportError | None:
        """None for yes; one attempt."""
        journey = self._core.begin(call, timeout)
        try:
            journey.answer(await self._link.send(journey.request(), journey.deadline, call.about))
        except (Failed, TimeoutError) as problem:
            return journey.unready(problem)
        return None


def _link(settings: Settings) -> AsyncLink:
    if settings.address.scheme in ("http", "https"):
        return HttpStream(settings)
    from .grpc_links import GrpcStream

    return GrpcStream(settings)
