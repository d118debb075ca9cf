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
from .health import Health
from .service import OpenInference
from .table import Finished, Table
from .tls import TlsFiles, credentials

MAX_STREAMS = 1024
"""Calls that one connection may have open at once; its client holds further ones back."""


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
    reuse_port: bool = False,
    finished: Finished | None = None,
) -> GrpcServer:
    """Serve the Open Inference Protocol, health and reflection over gRPC on the running event loop.

    Args:
        state: the application's state (see `OpenInference`).
        port: 0 takes a free one; the handle's `port` says which.
        guard: who may call; None lets everybody ask and nobody load or unload.
        max_message: the most bytes in one message that is read; answers may have any size.
        reuse_port: whether other processes may listen on the same port (SO_REUSEPORT).
        finished: called after each inference, for logs and traces.

    Raises:
        UsageError: the address cannot be bound, or the certificate cannot be used.
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
    server.add_generic_rpc_handlers((Table(service, health, guard, finished),))
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
