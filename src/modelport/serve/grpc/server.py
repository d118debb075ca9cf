"""Starts and stops the gRPC server.

handle = await start_grpc(app.state, "127.0.0.1", 8001)
…
await handle.stop(grace=30)
"""

from __future__ import annotations

from typing import Any

import grpc
import grpc.aio

from ...errors import UsageError
from ..guard.guard import Guard
from ..limits import Limits
from ..memory import BodyMemory
from .health import Health
from .service import OpenInference
from .table import Finished, Table
from .tls import TlsFiles, credentials

MAX_STREAMS = 512
"""Calls that one connection may have open at once; its client holds further ones back. One that has just
connected may not have heard of it, and what it begins beyond them is refused: so they are many."""
MAX_CALLS = 1024
"""Calls that all connections together may have open; further ones are RESOURCE_EXHAUSTED."""


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
    tls: TlsFiles | None = None,
    guard: Guard | None = None,
    max_message: int = 64 << 20,
    max_connections: int = Limits().max_connections,
    memory: BodyMemory | None = None,
    reuse_port: bool = False,
    finished: Finished | None = None,
) -> GrpcServer:
    """Serve the Open Inference Protocol, health and reflection over gRPC on the running event loop.

    Args:
        state: the application's state (see `OpenInference`).
        port: 0 takes a free one; the handle's `port` says which.
        guard: who may call; None lets everybody ask and nobody load or unload.
        max_message: the most bytes in one message that is read; answers may have any size.
        max_connections: further ones are closed as they come.
        memory: what the messages of calls that are being answered are counted in, shared with HTTP; None for
            one of its own, as large as HTTP's.
        reuse_port: whether other processes may listen on the same port (SO_REUSEPORT).
        finished: called after each inference, for logs and traces.

    Raises:
        UsageError: the address cannot be bound, or the certificate cannot be used.
    """
    options = [
        ("grpc.max_receive_message_length", max_message),
        ("grpc.max_send_message_length", -1),
        ("grpc.max_concurrent_streams", MAX_STREAMS),
        ("grpc.max_allowed_incoming_connections", max_connections),
        ("grpc.so_reuseport", int(reuse_port)),
        # Clients may ask every ten seconds whether we are there; we ask silent ones every two minutes.
        ("grpc.http2.min_recv_ping_interval_without_data_ms", 10_000),
        ("grpc.keepalive_permit_without_calls", 1),
        ("grpc.keepalive_time_ms", 120_000),
        ("grpc.server_handshake_timeout_ms", 10_000),
    ]
    server = grpc.aio.server(options=options, maximum_concurrent_rpcs=MAX_CALLS)
    memory = memory or BodyMemory(Limits().max_buffered)
    service = OpenInference(state)
    health = Health(service)
    server.add_generic_rpc_handlers((Table(service, health, guard, finished, memory),))
    address = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    try:
        if tls is None:
            bound = server.add_insecure_port(address)
        else:
            bound = server.add_secure_port(address, credentials(tls))
    except RuntimeError as problem:
        raise UsageError(
            f"cannot serve gRPC on {address}", hint="choose another port, or an address of this machine"
        ) from problem
    await server.start()
    return GrpcServer(server, int(bound), service, health)
