"""Every method by its path; before each the guard, behind each its errors' statuses."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from math import inf
from typing import Any
from urllib.parse import unquote

import grpc
from google.protobuf.message import DecodeError
from grpc_health.v1 import health_pb2

from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.caller import caller
from ...engine.told import Told
from ...errors import InputError, ModelportError, QueueFull
from ...protos.open_inference import METHODS, Method
from ..guard.guard import ANYBODY, Guard, Needs
from ..guard.ring import Principal
from ..guard.scope import record
from ..logs import is_probe
from ..memory import BodyMemory
from ..refused import Refusals
from ..timing import server_timing
from . import reflection
from .answers import Answers
from .health import Health
from .service import OpenInference
from .status import Refusal, refusal
from .stream import answer_stream

NEEDS: dict[str, Needs] = {
    "ServerLive": "open",
    "ServerReady": "open",
    "RepositoryModelLoad": "admin",
    "RepositoryModelUnload": "admin",
}
"""Probes have no key; what changes something asks for more than the rest, which is `infer`."""
OF_ALL = frozenset(["ModelStatistics", "RepositoryIndex"])
"""What tells of all models at once where it names none."""


class GrpcCaller:
    """Who calls: metadata, address and deadline, as guards and the engine ask for them."""

    __slots__ = ("_context", "chosen", "counted", "deadline", "told")
    place: float | None = None

    def __init__(self, context: Any) -> None:
        self._context = context
        self.told: Told | None = None
        self.counted = False
        remaining = context.time_remaining()
        self.deadline = inf if remaining is None else time.monotonic() + remaining
        self.chosen: dict[str, tuple[str | None, str | None]] | None = None

    def get(self, name: str, /) -> str | None:
        """One value; of several those joined by commas, as HTTP does."""
        return _value(self._context.invocation_metadata(), name)

    @property
    def address(self) -> str:
        """The caller's IP address: of `ipv4:127.0.0.1:5000` or `ipv6:[::1]:5000`, where it has one."""
        peer = self._context.peer()
        kind, _, rest = unquote(peer).partition(":")
        return rest.rpartition(":")[0].strip("[]") if kind in ("ipv4", "ipv6") else peer


class _Metadata:
    """What came before a call's first message."""

    __slots__ = ("_given",)

    def __init__(self, given: Any) -> None:
        self._given = given

    def get(self, name: str, /) -> str | None:
        """As `GrpcCaller.get`."""
        return _value(self._given, name)


def _value(metadata: Any, name: str) -> str | None:
    values = [value for key, value in metadata or () if key == name and isinstance(value, str)]
    return ", ".join(values) if values else None


Finished = Callable[[GrpcCaller, str, int, float], None]
"""Called after each inference with its caller, path, HTTP status and seconds: for logs and traces."""


class Table(grpc.GenericRpcHandler):  # type: ignore[misc]
    """What answers a path."""

    def __init__(
        self,
        service: OpenInference,
        health: Health,
        guard: Guard | None,
        finished: Finished | None,
        memory: BodyMemory,
    ) -> None:
        self._service = service
        self._finished = finished
        self._memory = memory
        self._refusals = Refusals(service.repository)
        self._answers = Answers(service.repository)
        self._guard = guard
        self._reflect = reflection.servicer()
        inference = {
            "ModelInfer": grpc.unary_unary_rpc_method_handler(self._infer),
            "ModelStreamInfer": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        self._handlers = {m.path: inference.get(m.name) or self._unary(m) for m in METHODS.values()}
        self._needs: dict[str, Needs] = {m.path: NEEDS.get(m.name, "infer") for m in METHODS.values()}
        ask, tell = health_pb2.HealthCheckRequest.FromString, health_pb2.HealthCheckResponse.SerializeToString
        of_health = f"/{reflection.HEALTH}/"
        self._handlers[of_health + "Check"] = grpc.unary_unary_rpc_method_handler(health.Check, ask, tell)
        self._handlers[of_health + "Watch"] = grpc.unary_stream_rpc_method_handler(health.Watch, ask, tell)
        for name in reflection.SERVICES:
            self._handlers[f"/{name}/ServerReflectionInfo"] = reflection.handler(self._reflected)
            self._needs[f"/{name}/ServerReflectionInfo"] = "infer"

    def service(self, call: Any) -> Any:
        """The handler for a path, or None: UNIMPLEMENTED. Asked before any message of the call is read."""
        path: str = call.method
        needs = self._needs.get(path, "open")
        try:
            if needs != "open" and self._guard is not None and not self._guard.idle:
                self._guard.check_known(_Metadata(call.invocation_metadata), needs, path=path)
            if needs != "open":
                self._memory.take(0)  # while it is full already, no message is read that would be refused
        except ModelportError as problem:
            return _refusing(refusal(problem, path))
        return self._handlers.get(path)

    def _unary(self, method: Method) -> Any:
        work: Callable[[Any], Awaitable[Any]] = getattr(self._service, method.name)
        needs = NEEDS.get(method.name, "infer")

        async def handle(data: bytes, context: Any) -> Any:
            held = 0
            try:
                if needs != "open":  # a probe is answered also where everything else is refused
                    self._memory.take(len(data))
                    held = len(data)
                request = _parsed(method, data)
                model = getattr(request, "model_name", None) or getattr(request, "name", None)
                principal = self._enter(GrpcCaller(context), method.path, needs, model, data)
                if needs != "admin":
                    return await work(request)
                return await _audited(work(request), principal, GrpcCaller(context), method.path)
            except Exception as problem:  # noqa: BLE001  the edge of a call
                if not isinstance(problem, QueueFull) and not is_probe(method.path):
                    self._count(problem)
                code, words, trailing = refusal(problem, method.name)
            finally:
                self._memory.give_back(held)
            return await context.abort(code, words, trailing)

        return grpc.unary_unary_rpc_method_handler(handle, None, method.response.SerializeToString)

    async def _infer(self, data: bytes, context: Any) -> bytes:
        try:
            asking = GrpcCaller(context)
            reply = await self._answer(data, asking, METHODS["ModelInfer"].path)
            if asking.told is not None and asking.told.batch:
                context.set_trailing_metadata((("server-timing", server_timing(asking.told)),))
            return reply
        except Exception as problem:  # noqa: BLE001  the edge of a call
            code, words, trailing = refusal(problem, "ModelInfer")
        return bytes(await context.abort(code, words, trailing))

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> None:
        path = METHODS["ModelStreamInfer"].path
        strict = (GrpcCaller(context).get("triton_grpc_error") or "").lower() == "true"
        try:
            # The guard is asked for each request: a stream is no way round a rate or a key's models.
            await answer_stream(
                lambda data: self._answer(data, GrpcCaller(context), path),
                requests,
                context.write,
                strict=strict,
            )
            return
        except Exception as problem:  # noqa: BLE001  the edge of a call
            code, words, trailing = refusal(problem, "ModelStreamInfer")
        await context.abort(code, words, trailing)

    async def _answer(self, data: bytes, asking: GrpcCaller, path: str) -> bytes:
        # Each call is a task of its own, and so is each request of a stream: nobody else sees this.
        caller.set(asking)
        if self._finished is None:
            return await self._counted(data, asking, path)
        began = time.monotonic()
        status = 500
        try:
            reply = await self._counted(data, asking, path)
            status = 200
            return reply
        except ModelportError as problem:
            status = problem.http_status
            raise
        except asyncio.CancelledError:
            status = 499
            raise
        finally:
            self._finished(asking, path, status, time.monotonic() - began)

    async def _counted(self, data: bytes, asking: GrpcCaller, path: str) -> bytes:
        """The answer to a message that counts among the bodies that are held, until it is there."""

        def door(model: str) -> None:
            self._enter(asking, path, "infer", model, data)

        self._memory.take(len(data))
        try:
            return await self._answers(data, door, asking)
        except Exception as problem:
            if not asking.counted:
                self._count(problem, asking.told)
            raise
        finally:
            self._memory.give_back(len(data))

    def _count(self, problem: Exception, told: Told | None = None) -> None:
        """Count a call that ends with an error, other than by the guard and by what all bodies take."""
        status = problem.http_status if isinstance(problem, ModelportError) else 500
        name, version = (told.model, told.version) if told else (None, None)
        self._refusals.count(status, name, version, told=told)

    async def _reflected(self, requests: Any, context: Any) -> None:
        try:
            self._enter(GrpcCaller(context), f"/{reflection.ALPHA}/", "infer", None, b"")
        except ModelportError as problem:
            await context.abort(*refusal(problem, "ServerReflectionInfo"))
        async for reply in self._reflect.ServerReflectionInfo(requests, context):
            await context.write(reply)

    def _enter(
        self, asking: GrpcCaller, path: str, needs: Needs, model: str | None, data: bytes
    ) -> Principal:
        """Who asks, if they may.

        Raises:
            Unauthorized, Forbidden, RateLimited: they may not.
        """
        guard = self._guard
        if guard is None or (needs == "infer" and guard.idle):
            return ANYBODY
        principal = guard.authorize(
            asking,
            needs,
            model=model.removesuffix(NET) if model else None,
            client=asking.address,
            path=path,
        )
        guard.check_body(principal, data)
        if not model and path.rpartition("/")[2] in OF_ALL:
            guard.check_unbound(principal)
        return principal


def _refusing(how: Refusal) -> Any:
    """A handler of whatever kind of call, that refuses it and reads nothing."""

    async def refuse(requests: Any, context: Any) -> None:
        await context.abort(*how)

    return grpc.stream_stream_rpc_method_handler(refuse)


async def _audited(work: Awaitable[Any], principal: Principal, asking: GrpcCaller, path: str) -> Any:
    """The answer, and a line of the audit log whatever it is."""
    status = 500
    try:
        answer = await work
        status = 200
        return answer
    except ModelportError as problem:
        status = problem.http_status
        raise
    finally:
        scope = {"client": (asking.address, 0), "method": "gRPC", "path": path}
        record(principal, scope, status)


def _parsed(method: Method, data: bytes) -> Any:
    """A message. (grpc would do it too, and call what is none an unknown error, with a traceback in the log.)

    Raises:
        InputError: `data` is no such message.
    """
    try:
        return method.request.FromString(data)
    except DecodeError as problem:
        raise InputError(f"not a {method.name}Request: {problem}") from problem
