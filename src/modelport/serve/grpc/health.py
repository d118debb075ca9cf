"""grpc.health.v1.Health over the live models, asked when it is asked and not remembered.

The names that may be asked:

- the empty name and the service's: SERVING when every model answers, as /v2/health/ready;
- `modelport.live`: SERVING as long as the process answers at all (a liveness probe must not ask for more:
  a restart mends no bundle);
- a model, `NAME` or `NAME.net`, or one version of it, `NAME/VERSION`: SERVING when that answers.
"""

from __future__ import annotations

import asyncio
from typing import Any

import grpc
from grpc_health.v1 import health_pb2

from ...errors import NotFound
from ...protos.open_inference import SERVICE
from ..infer import find
from .service import OpenInference

LIVE = "modelport.live"
LOOK_EVERY = 0.25
"""Seconds between two looks on behalf of a watcher."""

_Status = health_pb2.HealthCheckResponse.ServingStatus


class Health:
    """The two methods of grpc.health.v1.Health."""

    def __init__(self, service: OpenInference) -> None:
        self._service = service
        self._stopping = asyncio.Event()

    async def Check(self, request: Any, context: Any) -> Any:
        """The status now; NOT_FOUND for a name that is not known."""
        status = self._status(request.service)
        if status == _Status.SERVICE_UNKNOWN:
            await context.abort(grpc.StatusCode.NOT_FOUND, f"unknown service {request.service[:100]!r}")
        return health_pb2.HealthCheckResponse(status=status)

    async def Watch(self, request: Any, context: Any) -> None:
        """The status now and whenever it has changed, until the caller leaves or the server stops."""
        told = None
        while True:
            last = self._stopping.is_set()
            status = self._status(request.service)
            if status != told:
                await context.write(health_pb2.HealthCheckResponse(status=status))
                told = status
            if last:
                return
            try:
                await asyncio.wait_for(self._stopping.wait(), LOOK_EVERY)
            except TimeoutError:
                continue

    def stop(self) -> None:
        """Tell every watcher that nothing is served from now on, and let it go."""
        self._stopping.set()

    def _status(self, name: str) -> Any:
        if self._stopping.is_set():
            return _Status.NOT_SERVING
        if name == LIVE:
            return _Status.SERVING
        if name in ("", SERVICE):
            return _Status.SERVING if self._service.ready() else _Status.NOT_SERVING
        model, _, version = name.partition("/")
        try:
            entry, _ = find(self._service.repository, model, version or None)
        except NotFound:
            return _Status.SERVICE_UNKNOWN
        return _Status.SERVING if self._service.answers(entry) else _Status.NOT_SERVING
