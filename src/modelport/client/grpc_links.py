"""gRPC channels, blocking and asyncio: one connection carries every call of a client.

grpc's own retries are off: the client's budget counts them all.
"""

from __future__ import annotations

import asyncio
import math
import threading
import time
from typing import Any

from ..errors import (
    DeadlineExceeded,
    Forbidden,
    InputError,
    ModelFailed,
    ModelportError,
    NotFound,
    RateLimited,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
    UsageError,
)
from .failures import MOST_WORDS, BadReply, Failed, seconds_of
from .grpc_oip import Answer, Rpc
from .http1 import header_lines
from .settings import Settings, owner

try:
    import grpc
    import grpc.aio
except ModuleNotFoundError as problem:  # pragma: no cover: the tests have it
    raise Unsupported("a grpc:// address needs `grpcio`", hint="pip install 'modelport[grpc]'") from problem

CODES: dict[str, type[ModelportError]] = {
    "INVALID_ARGUMENT": InputError,
    "OUT_OF_RANGE": InputError,
    "FAILED_PRECONDITION": InputError,
    "ALREADY_EXISTS": InputError,
    "UNAUTHENTICATED": Unauthorized,
    "PERMISSION_DENIED": Forbidden,
    "NOT_FOUND": NotFound,
    "RESOURCE_EXHAUSTED": RateLimited,
    "UNIMPLEMENTED": Unsupported,
    "UNAVAILABLE": Unavailable,
    "CANCELLED": Unavailable,
    "ABORTED": Unavailable,
    "DEADLINE_EXCEEDED": DeadlineExceeded,
    "INTERNAL": ModelFailed,
}
"""gRPC status -> the error it becomes; others are BadReply."""

APART: dict[str, type[ModelportError]] = {"413": TooLarge, "415": UnsupportedMedia}
"""By the trailer `x-http-status` of INVALID_ARGUMENT: those that HTTP has a status of their own for."""

COME_BACK = ("UNAVAILABLE", "RESOURCE_EXHAUSTED")
"""The statuses after which another attempt may be made."""


class GrpcLink:
    """Carries calls over one channel, for many threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._credentials = credentials(settings)
        self._lock = threading.Lock()
        self._open: tuple[int, Any, dict[str, Any]] | None = None
        self._closed = False

    def send(self, request: Rpc, deadline: float, about: str) -> Answer:
        """Make one call and wait for its reply.

        Raises:
            Failed: it failed. TimeoutError: not before `deadline`.
        """
        method = self._methods()[request.method]
        try:
            reply, call = method.with_call(
                request.message, timeout=seconds_left(deadline), metadata=metadata(self._settings)
            )
            return Answer(reply, _timing(call.trailing_metadata()))
        except grpc.RpcError as problem:
            raise failed_call(problem, about, deadline, str(self._settings.address)) from problem

    def close(self) -> None:
        """Close the channel; calls on their way fail."""
        with self._lock:
            self._closed = True
            if self._open is not None and self._open[0] == owner():
                self._open[1].close()
            self._open = None

    def _methods(self) -> dict[str, Any]:
        opened = self._open
        if opened is not None and opened[0] == owner():
            return opened[2]
        with self._lock:
            if self._closed:
                raise UsageError("this client is closed", hint="make another")
            if self._open is None or self._open[0] != owner():
                channel = _channel(grpc, self._settings, self._credentials)
                self._open = (owner(), channel, methods(channel))
            return self._open[2]


class GrpcStream:
    """Carries calls over one channel, for many tasks on one event loop."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._credentials = credentials(settings)
        self._open: tuple[tuple[int, asyncio.AbstractEventLoop], Any, dict[str, Any]] | None = None
        self._closed = False

    async def send(self, request: Rpc, deadline: float, about: str) -> Answer:
        """Make one call and wait for its reply.

        Raises:
            Failed: it failed. TimeoutError: not before `deadline`.
        """
        if self._closed:
            raise UsageError("this client is closed", hint="make another")
        here = (owner(), asyncio.get_running_loop())
        if self._open is None:
            channel = _channel(grpc.aio, self._settings, self._credentials)
            self._open = (here, channel, methods(channel))
        elif self._open[0] != here:
            raise UsageError(
                "this AsyncClient was used in another event loop or process", hint="make one for each"
            )
        method = self._open[2][request.method]
        try:
            call = method(request.message, timeout=seconds_left(deadline), metadata=metadata(self._settings))
            return Answer(await call, _timing(await call.trailing_metadata()))
        except grpc.aio.AioRpcError as problem:
            raise failed_call(problem, about, deadline, str(self._settings.address)) from problem

    async def close(self) -> None:
        """Close the channel; calls on their way are cancelled."""
        self._closed = True
        opened, self._open = self._open, None
        if opened is not None:
            await opened[1].close(None)


def _timing(trailing: Any) -> str | None:
    """What the server says of where the time went."""
    return next((str(value) for name, value in trailing or () if name == "server-timing"), None)


def credentials(settings: Settings) -> Any:
    """What a secure channel is checked with; None for a plain one."""
    if not settings.address.secure:
        return None
    ca, key, cert = settings.tls.contents()
    return grpc.ssl_channel_credentials(ca, key, cert)


def methods(channel: Any) -> dict[str, Any]:
    """The service's methods on a channel, by name."""
    from ..protos.open_inference import METHODS, Stub

    stub = Stub(channel)
    return {name: getattr(stub, name) for name in METHODS}


def metadata(settings: Settings) -> list[tuple[str, str]]:
    """The headers of one call."""
    found = [("authorization", f"Bearer {settings.key}")] if settings.key is not None else []
    further = settings.further()
    if further:
        header_lines(further)
        found += [(name.lower(), value) for name, value in further.items()]
    return found


def seconds_left(deadline: float) -> float | None:
    """Seconds to the deadline; None: there is none.

    Raises:
        TimeoutError: none are left.
    """
    if deadline == math.inf:
        return None
    left = deadline - time.monotonic()
    if left <= 0:
        raise TimeoutError
    return left


def failed_call(problem: Any, about: str, deadline: float, address: str) -> Failed | TimeoutError:
    """A call that grpc says has failed."""
    code = problem.code().name
    words = (problem.details() or "")[:MOST_WORDS] or f"{about}: the server answered {code} without words"
    if code == "DEADLINE_EXCEEDED" and time.monotonic() >= deadline:
        return TimeoutError()
    if code == "RESOURCE_EXHAUSTED" and "larger than max" in words:
        return Failed(TooLarge(words, hint="Client(max_reply=BYTES) reads larger replies"))
    kind = _apart(problem) or CODES.get(code, BadReply)
    again = code in COME_BACK
    after = _after(problem) if again else None
    if after is not None and after < 0:
        again, after = False, None  # gRPC proposal A6: a negative push-back means never
    if not issubclass(kind, Unavailable):
        return Failed(kind(words), again=again, after=after)
    unreachable = code == "UNAVAILABLE" and after is None
    hint = f"is the server running at {address}? its log says more" if unreachable else None
    return Failed(kind(words, retry_after=after or 1.0, hint=hint), again=again, after=after)


def _apart(problem: Any) -> type[ModelportError] | None:
    """The error that a trailer names, where the status stands for several."""
    status = _trailers(problem).get("x-http-status", "")
    return APART.get(status) if problem.code().name == "INVALID_ARGUMENT" else None


def _trailers(problem: Any) -> dict[str, str]:
    return {key: str(value) for key, value in problem.trailing_metadata() or ()}


def _after(problem: Any) -> float | None:
    """Seconds that the server asks to wait, by gRPC's own trailer or by HTTP's."""
    trailers = _trailers(problem)
    pushback = trailers.get("grpc-retry-pushback-ms")
    if pushback is not None:
        try:
            return int(pushback) / 1e3
        except ValueError:
            return -1.0  # A6: what is no number means never
    return seconds_of(trailers.get("retry-after"))


def _channel(module: Any, settings: Settings, trusted: Any) -> Any:
    """A channel of grpc or grpc.aio."""
    options = [
        ("grpc.max_receive_message_length", min(settings.max_reply, (1 << 31) - 1)),
        ("grpc.max_send_message_length", -1),
        ("grpc.enable_retries", 0),
        ("grpc.initial_reconnect_backoff_ms", 100),
        ("grpc.max_reconnect_backoff_ms", 2000),
        ("grpc.use_local_subchannel_pool", 1),
    ]
    packing = {
        None: grpc.Compression.NoCompression,
        "gzip": grpc.Compression.Gzip,
        "deflate": grpc.Compression.Deflate,
    }[settings.compression]
    target = settings.address.netloc
    if trusted is None:
        return module.insecure_channel(target, options=options, compression=packing)
    return module.secure_channel(target, trusted, options=options, compression=packing)
