"""The short path: tensors in binary and encoded pictures, from the socket to the queue without a detour.

What a request's JSON says is worked out once and remembered by its bytes: a client that sends the same
head again (all do, but for request ids) costs one look into a table. Everything unusual (JSON tensors,
text, classification, compression, forms of several fields) takes the long way through the application, with
the same answer.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable

import msgspec

from ..bundle.rules import NETWORK_SUFFIX
from ..engine.caller import caller
from ..engine.model import LiveModel, answered
from ..engine.repository import Repository
from ..engine.submission import Result
from ..engine.told import told
from ..errors import InputError, ModelportError
from .binary import MAX_KNOWN, BinaryTensors, Plans
from .drawing import draws
from .exchange import JSON, Exchange
from .form import only_file
from .guard.guard import Guard
from .options import of_address
from .predict import JSON as JSON_KIND
from .predict import reply_kind
from .rows import is_record
from .short_replies import refuse

Route = Callable[[Exchange], bool]

_INFER = re.compile(rb"/v2/models/([^/%]+?)(?:/versions/([^/%]+))?/infer")
_PREDICT = re.compile(rb"/predict/([^/%]+)(?:/([^/%]+))?")
_NAMED = (
    (_INFER, "/v2/models/{name}/versions/{version}/infer", "/v2/models/{name}/infer"),
    (_PREDICT, "/predict/{name}/{version}", "/predict/{name}"),
)
_VARY = b"Vary: Accept\r\n"
_FORM = b"multipart/form-data"
_FORMS = (_FORM, b"application/x-www-form-urlencoded")


class ShortPath:
    """Finds the route of a request, and answers what it can.

    Args:
        repository: the models.
        guard: who may ask for answers.
        origins: whose pages may post, beside this server's own.
        apis: dialects that are on: `v2` and `predict` are the ones that can be here.
    """

    def __init__(
        self, repository: Repository, guard: Guard, origins: tuple[str, ...], apis: tuple[str, ...]
    ) -> None:
        self._repository = repository
        self._guard = guard
        self._origins = origins
        self._apis = apis
        self._routes: dict[bytes, Route | None] = {}
        self._plans: Plans = {}

    def __call__(self, exchange: Exchange) -> bool:
        """Whether the exchange was taken; it is then answered from here."""
        path = exchange.path
        try:
            route = self._routes[path]
        except KeyError:
            if len(self._routes) > MAX_KNOWN:
                self._routes.clear()
            route = self._routes[path] = self._find(path)
        headers = exchange.headers
        if route is None or b"content-encoding" in headers:
            return False
        if isinstance(route, BinaryTensors) and not route.reads(exchange):
            return False
        if b"origin" in headers or b"sec-fetch-site" in headers:
            self._guard.check_site("POST", exchange, self._origins)
        if b"x-request-timeout-ms" not in headers:
            # Requests with the same head go the same way from now on.
            exchange.head.route = route
        return shortly(exchange, route)

    def forget(self, model: LiveModel) -> None:
        """Drop what is remembered for a version that is unloaded."""
        self._plans.pop(model, None)

    def _find(self, path: bytes) -> Route | None:
        if "v2" in self._apis and (found := _INFER.fullmatch(path)):
            name, version = found[1].decode("latin-1"), found[2].decode("latin-1") if found[2] else None
            if name.endswith(NETWORK_SUFFIX):
                names = (name, name.removesuffix(NETWORK_SUFFIX), version)
                return BinaryTensors(self._repository, self._authorize, self._plans, *names)
        if "predict" in self._apis and (found := _PREDICT.fullmatch(path)):
            name, version = found[1].decode("latin-1"), found[2].decode("latin-1") if found[2] else None
            return lambda exchange: self._predict(exchange, name, version)
        return None

    def _authorize(self, exchange: Exchange, model: str) -> None:
        if not self._guard.idle:
            principal = exchange.principal = self._guard.authorize(
                exchange,
                "infer",
                model=model,
                client=exchange.client[0],
                method="POST",
                path=exchange.path.decode("latin-1"),
            )
            if principal.body_md5 is not None:
                self._guard.check_body(principal, bytes(exchange.body))

    def _predict(self, exchange: Exchange, name: str, version: str | None) -> bool:
        full_kind = exchange.headers.get(b"content-type", b"")
        kind = full_kind.partition(b";")[0].strip().lower()
        body, start = exchange.body, 0
        if not len(body) or kind == b"application/json" or name not in self._repository:
            return False
        self._authorize(exchange, name)
        model = self._repository.model(name, version)
        manifest = model.bundle.manifest
        if manifest.decode.kind == "table" or (is_record(manifest) and kind in _FORMS):
            return False
        if reply_kind(model, exchange.get("accept")) != JSON_KIND:
            return False
        options = of_address(model, exchange.head.query) if exchange.head.query else None
        if kind == _FORM:
            found = only_file(bytes(body), full_kind)
            if found is None:
                return False
            start, end = found
            body = body[start:end]

        def done(result: Result | Exception) -> None:
            if isinstance(result, Result):
                reply_answer(exchange, model, result)
            else:
                exchange.counted = True
                refuse(exchange, result)

        starts = (exchange.slot_start + start,)
        slot, exchange.slot = exchange.slot, None
        exchange.submission = model.submit(
            model.lane("encoded"),
            1,
            [body],
            done,
            deadline=exchange.deadline,
            slot=slot,
            starts=starts,
            options=options,
        )
        return True


def route_of(path: bytes) -> str:
    """The route of a path that is answered here, as traces name it; empty for any other."""
    for pattern, whole, bare in _NAMED:
        if found := pattern.fullmatch(path):
            return whole if found[2] else bare
    return ""


def named(path: bytes) -> tuple[str | None, str | None]:
    """The model and the version that a path names which is answered here; None for what it does not."""
    for pattern, _, _ in _NAMED:
        if found := pattern.fullmatch(path):
            return found[1].decode("latin-1"), found[2].decode("latin-1") if found[2] else None
    return None, None


def shortly(exchange: Exchange, route: Route) -> bool:
    """Take a route; what it refuses is told. False where it leaves the exchange to the long way."""
    caller.set(exchange)
    try:
        return route(exchange)
    except ModelportError as problem:
        refuse(exchange, problem)
        return True


def reply_answer(exchange: Exchange, model: LiveModel, result: Result) -> None:
    """`/predict`'s reply: who answered, what, and where the time went."""
    done = answered(result)
    timing = done.timing
    if exchange.server.finished is not None:
        exchange.told = told(model.name, model.version, result)
    body = msgspec.json.encode(
        {
            "model": model.name,
            "version": model.version,
            "answer": model.readable(done.tensors),
            "timing_ms": timing,
        }
    )
    line = (
        b"Server-Timing: decode;dur=%.3f, pre;dur=%.3f, queue;dur=%.3f, net;dur=%.3f, post;dur=%.3f, "
        b"total;dur=%.3f, batch;desc=%d\r\n"
    ) % (timing.decode, timing.pre, timing.queue, timing.net, timing.post, timing.total, result.run.rows)
    exchange.reply(200, body, JSON + line + (_VARY if draws(model.bundle.manifest) else b""))


def deadline_of(exchange: Exchange) -> float:
    """When the caller stops waiting, by its `X-Request-Timeout-Ms`; infinity where it does not say.

    Raises:
        InputError: not a positive number.
    """
    value = exchange.headers.get(b"x-request-timeout-ms")
    if value is None:
        return math.inf
    if not re.fullmatch(rb"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not float(value):
        raise InputError(
            f"X-Request-Timeout-Ms is {value[:20].decode('latin-1')!r}; expected milliseconds, above 0"
        )
    return time.monotonic() + float(value) / 1e3
