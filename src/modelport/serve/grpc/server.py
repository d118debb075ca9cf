"""Starts and stops the gRPC server, and stands before every method: keys, statuses, nothing of models.

handle = await start_grpc(app.state, "127.0.0.1", 8001)
…
await handle.stop(grace=30)
"""

from __future__ import annotations

import inspect
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple
from urllib.parse import unquote

import grpc
import grpc.aio
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ...bundle.rules import NETWORK_SUFFIX as NET
from ...errors import Forbidden, InputError, UsageError
from ...protos.open_inference import METHODS, Method
from . import reflection
from .health import Health
from .service import OpenInference, deadline_of
from .status import refusal
from .stream import answer_stream

Guard = Callable[[Mapping[str, str], str], Any]
"""`guard(metadata, scope)`, or a coroutine function: raises a ModelportError for a caller who may not. The
caller's IP address is in the metadata as `:peer`, a name that no caller can send. What is returned is None
or has `may_ask(model) -> bool`, which then must hold too."""

OPEN = frozenset({"ServerLive", "ServerReady"})
"""Asked by probes, which have no key; so is the health service."""
ADMIN = frozenset({"RepositoryModelLoad", "RepositoryModelUnload"})
"""Methods that change something; all others need the scope `infer`."""

MAX_STREAMS = 1024
"""Calls that one connection may have open at once; its client holds further ones back."""


class Tls(NamedTuple):
    """What the server proves itself with, and whom it lets in: all PEM."""

    certificates: bytes
    key: bytes
    client_ca: bytes | None = None
    """Where given, only clients with a certificate from it are let in."""


class GrpcServer:
    """A running server; `start_grpc` makes it."""

    def __init__(self, server: Any, port: int, service: OpenInference, health: Health) -> None:
        self._server = server
        self.port = port
        self._service = service
        self._health = health

    async def stop(self, grace: float) -> None:
        """Take no new calls, finish those that were taken within `grace` seconds, cancel the rest."""
        self._service.stopping = True
        self._health.stop()
        await self._server.stop(grace)


async def start_grpc(
    state: Any,
    host: str,
    port: int,
    *,
    tls: Tls | None = None,
    guard: Guard | None = None,
    max_message: int = 64 << 20,
    reuse_port: bool = False,
) -> GrpcServer:
    """Serve the Open Inference Protocol, health and reflection over gRPC on the running event loop.

    Args:
        state: the application's state (see `OpenInference`).
        port: 0 takes a free one; the handle's `port` says which.
        max_message: the most bytes in one message that is read; answers may have any size.
        reuse_port: whether other processes may listen on the same port (SO_REUSEPORT).

    Raises:
        UsageError: the address cannot be bound, or the certificate is not one.
    """
    options = [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.so_reuseport", int(reuse_port)),
        # Clients may ask every ten seconds whether we are there; we ask silent ones every two minutes.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
    ]
    server = grpc.aio.server(options=options)
    service = OpenInference(state)
    health = Health(service)
    server.add_generic_rpc_handlers((Table(service, health, guard),))
    bound = _bind(server, f"[{host}]:{port}" if ":" in host else f"{host}:{port}", tls)
    await server.start()
    return GrpcServer(server, bound, service, health)


def _bind(server: Any, address: str, tls: Tls | None) -> int:
    try:
        if tls is None:
            return int(server.add_insecure_port(address))
        credentials = grpc.ssl_server_credentials(
            [(tls.key, tls.certificates)],
            root_certificates=tls.client_ca,
            require_client_auth=tls.client_ca is not None,
        )
        return int(server.add_secure_port(address, credentials))
    except (RuntimeError, ValueError) as problem:
        raise UsageError(
            f"cannot serve gRPC on {address}" + (" with this certificate" if tls else ""),
            hint="choose another port, or an address of this machine",
        ) from problem


class Table(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Every method by its path."""

    def __init__(self, service: OpenInference, health: Health, guard: Guard | None) -> None:
        self._service = service
        self._guard = guard
        self._reflect = reflection.servicer()
        self._handlers = {
            method.path: self._streaming(method) if method.streams else self._unary(method)
            for method in METHODS.values()
        }
        ask, tell = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        of_health = f"/{reflection.HEALTH}/"
        self._handlers[of_health + "Check"] = grpc.unary_unary_rpc_method_handler(health.Check, ask, tell)
        self._handlers[of_health + "Watch"] = grpc.unary_stream_rpc_method_handler(health.Watch, ask, tell)
        for name in reflection.SERVICES:
            self._handlers[f"/{name}/ServerReflectionInfo"] = reflection.handler(self._reflected)

    def service(self, call: Any) -> Any:
        """The handler for a path, or None: UNIMPLEMENTED."""
        return self._handlers.get(call.method)

    def _unary(self, method: Method) -> Any:
        work: Callable[[Any, Any], Awaitable[Any]] = getattr(self._service, method.name)
        guarded = self._guard is not None and method.name not in OPEN
        scope = "admin" if method.name in ADMIN else "infer"

        async def handle(data: bytes, context: Any) -> Any:
            try:
                request = parsed(method.request, data)
                if guarded:
                    await self._authorize(request, context, scope)
                return await work(request, context)
            except Exception as problem:  # noqa: BLE001  the edge of a call
                code, words, trailing = refusal(problem, method.name)
            return await context.abort(code, words, trailing)

        return grpc.unary_unary_rpc_method_handler(handle, None, method.response.SerializeToString)

    def _streaming(self, method: Method) -> Any:
        async def handle(requests: Any, context: Any) -> None:
            async def answer(request: Any) -> Any:
                # Each request is asked for, so that a stream is no way round a rate or a key's models.
                if self._guard is not None:
                    await self._authorize(request, context, "infer")
                return await self._service.infer(request, deadline_of(context))

            messages = (parsed(method.request, data) async for data in requests)
            strict = _metadata(context).get("triton_grpc_error", "").lower() == "true"
            try:
                await answer_stream(answer, messages, context.write, strict=strict)
                return
            except Exception as problem:  # noqa: BLE001  the edge of a call
                code, words, trailing = refusal(problem, method.name)
            await context.abort(code, words, trailing)

        return grpc.stream_stream_rpc_method_handler(handle, None, method.response.SerializeToString)

    async def _reflected(self, requests: Any, context: Any) -> None:
        try:
            if self._guard is not None:
                await self._authorize(None, context, "infer")
        except Exception as problem:  # noqa: BLE001  the edge of a call
            await context.abort(*refusal(problem, "ServerReflectionInfo"))
        async for reply in self._reflect.ServerReflectionInfo(requests, context):
            await context.write(reply)

    async def _authorize(self, request: Any, context: Any, scope: str) -> None:
        assert self._guard is not None
        metadata = _metadata(context)
        metadata[":peer"] = _address(context.peer())
        caller = self._guard(metadata, scope)
        if inspect.isawaitable(caller):
            caller = await caller
        model = getattr(request, "model_name", None) or getattr(request, "name", None)
        if caller is not None and model and not caller.may_ask(model.removesuffix(NET)):
            raise Forbidden(f"this key is not for the model {model[:100]!r}")


def parsed(kind: Any, data: bytes) -> Any:
    """A message. (grpc would do it too, and call what is none an unknown error, with a traceback in the log.)

    Raises:
        InputError: `data` is no such message.
    """
    try:
        return kind.FromString(data)
    except DecodeError as problem:
        raise InputError(f"not a {kind.DESCRIPTOR.name}: {problem}") from problem


def _metadata(context: Any) -> dict[str, str]:
    """What the caller sent beside its message; of a name that came twice both values, as HTTP joins them."""
    found: dict[str, str] = {}
    for name, value in context.invocation_metadata() or ():
        if isinstance(value, str):
            found[name] = f"{found[name]}, {value}" if name in found else value
    return found


def _address(peer: str) -> str:
    """The IP address in gRPC's `ipv4:127.0.0.1:5000` or `ipv6:[::1]:5000`; other text as it is."""
    kind, _, rest = unquote(peer).partition(":")
    return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer
