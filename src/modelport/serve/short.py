"""The short path: tensors in binary and encoded pictures, from the socket to the queue without a detour.

What a request's JSON says is worked out once and remembered by its bytes: a client that sends the same
head again (all do, but for request ids) costs one look into a table. Everything unusual (JSON tensors,
text, classification, compression, forms) takes the long way through the application, with the same answer.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from typing import Any

import msgspec

from ..bundle.rules import NETWORK_SUFFIX
from ..engine.caller import caller
from ..engine.model import LiveModel, answered
from ..engine.repository import Repository
from ..engine.submission import Lane, Result
from ..engine.wire import TensorHead
from ..errors import InputError, ModelportError
from ..tensors import OIP_DATATYPES
from .exchange import CLOSE, JSON, SAFE, Exchange, Told
from .guard.guard import Guard
from .guard.origin import check_site
from .oip import BinaryHead, parse_binary_head
from .refusal import refusal

Route = Callable[[Exchange], bool]

_INFER = re.compile(rb"/v2/models/([^/%]+?)(?:/versions/([^/%]+))?/infer")
_PREDICT = re.compile(rb"/predict/([^/%]+)(?:/([^/%]+))?")
_IMAGES = (b"\xff\xd8\xff", b"\x89PNG", b"GIF8", b"RIFF", b"BM")
_LONG_WAY = (b"application/json", b"multipart/form-data")
MAX_HEAD = 4096
"""Bytes of JSON that are remembered; longer heads take the long way."""
MAX_KNOWN = 512
"""Heads remembered for one version of a model."""
_PACKS = 64 << 10
"""Replies of this many bytes are compressed where the caller takes it; that is the long way."""


class Plan:
    """What one head of JSON means for one version of a model, and the head of the answer to it."""

    __slots__ = ("answers", "identity", "lane", "name", "rows", "size", "sizes", "timeout", "wanted")

    def __init__(self, lane: Lane, name: str, head: BinaryHead) -> None:
        self.lane = lane
        self.name = name
        self.rows = head.rows
        self.sizes = head.sizes
        self.size = sum(head.sizes)
        self.wanted = head.outputs
        self.timeout = head.timeout
        self.identity = head.identity
        self.answers: dict[tuple[tuple[int, ...], ...], tuple[list[int], bytes, bytes]] = {}
        """By the shapes of a row of each output: which go out, the reply's lines, and its JSON."""


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
        self._plans: dict[LiveModel, dict[bytes, Plan | None]] = {}

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
        caller.set(exchange)
        try:
            if b"origin" in headers or b"sec-fetch-site" in headers:
                check_site("POST", exchange, self._origins)
            return route(exchange)
        except ModelportError as problem:
            refuse(exchange, problem)
            return True

    def forget(self, model: LiveModel) -> None:
        """Drop what is remembered for a version that is unloaded."""
        self._plans.pop(model, None)

    def _find(self, path: bytes) -> Route | None:
        if "v2" in self._apis and (found := _INFER.fullmatch(path)):
            name, version = found[1].decode("latin-1"), found[2].decode("latin-1") if found[2] else None
            if name.endswith(NETWORK_SUFFIX):
                bare = name.removesuffix(NETWORK_SUFFIX)
                return lambda exchange: self._infer(exchange, name, bare, version)
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
                principal.check_body(bytes(exchange.body))

    # -- tensors ---------------------------------------------------------------------------------------------

    def _infer(self, exchange: Exchange, shown: str, name: str, version: str | None) -> bool:
        length = exchange.headers.get(b"inference-header-content-length")
        if length is None or not length.isdigit() or len(length) > 8:
            return False
        head_size = int(length)
        body = exchange.body
        if not 0 < head_size <= min(MAX_HEAD, len(body)) or name not in self._repository:
            return False
        self._authorize(exchange, name)
        model = self._repository.model(name, version)
        plans = self._plans.get(model)
        if plans is None:
            plans = self._plans[model] = {}
        text = bytes(body[:head_size])
        try:
            plan = plans[text]
        except KeyError:
            plan = self._learn(model, shown, text, plans)
        if plan is None or len(body) - head_size != plan.size:
            return False
        if len(body) > _PACKS and b"accept-encoding" in exchange.headers:
            return False
        if len(plan.sizes) == 1:
            data = [body[head_size:]]
            starts = [exchange.slot_start + head_size]
        else:
            ends = list(accumulate(plan.sizes, initial=head_size))
            data = [body[start:end] for start, end in pairwise(ends)]
            starts = [exchange.slot_start + start for start in ends[:-1]]
        deadline = exchange.deadline
        if plan.timeout:
            deadline = min(deadline, time.monotonic() + plan.timeout)

        def done(result: Result | Exception) -> None:
            if isinstance(result, Result):
                self._answer(exchange, plan, model, result)
            else:
                refuse(exchange, result)

        slot, exchange.slot = exchange.slot, None
        exchange.submission = model.submit(
            plan.lane, plan.rows, data, done, deadline=deadline, slot=slot, starts=starts
        )
        return True

    def _learn(
        self, model: LiveModel, shown: str, text: bytes, plans: dict[bytes, Plan | None]
    ) -> Plan | None:
        """Read a head of JSON; None for one that the long way must read."""
        head = parse_binary_head(text, model.bundle.manifest.graphs.net.signature)
        if head is None:
            return None
        tensors = tuple(TensorHead(spec.name, spec.dtype, shape) for spec, shape in head.inputs)
        plan = Plan(model.lane("net", tensors), shown, head)
        if not head.identity:
            if len(plans) >= MAX_KNOWN:
                plans.clear()
            plans[text] = plan
        return plan

    def _answer(self, exchange: Exchange, plan: Plan, model: LiveModel, result: Result) -> None:
        run = result.run
        known = plan.answers.get(run.shapes)
        if known is None:
            known = self._answer_head(plan, model, result)
            if len(plan.answers) < 8:
                plan.answers[run.shapes] = known
        indexes, lines, text = known
        if exchange.server.finished is not None:
            exchange.told = told(model, result)
        timing = b"Server-Timing: queue;dur=%.3f, net;dur=%.3f, batch;desc=%d\r\n" % (
            result.queued * 1e3,
            run.group.net * 1e3,
            run.rows,
        )
        exchange.send(
            [lines, timing, CLOSE if exchange.closes else b"", b"\r\n", text, *map(result.blob, indexes)]
        )

    def _answer_head(self, plan: Plan, model: LiveModel, result: Result) -> tuple[list[int], bytes, bytes]:
        names = [head.name for head in result.heads]
        indexes = [names.index(name) for name in plan.wanted] if plan.wanted else list(range(len(names)))
        entries: list[dict[str, Any]] = []
        size = 0
        for index in indexes:
            head = result.heads[index]
            shape = [result.rows, *head.shape[1:]]
            width = len(result.blob(index))
            size += width
            entries.append(
                {
                    "name": head.name,
                    "datatype": OIP_DATATYPES[head.dtype],
                    "shape": shape,
                    "parameters": {"binary_data_size": width},
                }
            )
        who = {"id": plan.identity} if plan.identity else {}
        text = msgspec.json.encode(
            {**who, "model_name": plan.name, "model_version": model.version, "outputs": entries}
        )
        lines = (
            b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%s"
            b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n"
        ) % (SAFE, len(text), len(text) + size)
        return indexes, lines, text

    # -- pictures --------------------------------------------------------------------------------------------

    def _predict(self, exchange: Exchange, name: str, version: str | None) -> bool:
        kind = exchange.headers.get(b"content-type", b"")
        body = exchange.body
        if not len(body) or kind.startswith(_LONG_WAY) or name not in self._repository:
            return False
        self._authorize(exchange, name)
        model = self._repository.model(name, version)

        def done(result: Result | Exception) -> None:
            if isinstance(result, Result):
                reply_answer(exchange, model, result)
            else:
                refuse(exchange, result)

        starts = (exchange.slot_start,)
        slot, exchange.slot = exchange.slot, None
        exchange.submission = model.submit(
            model.lane("encoded"), 1, [body], done, deadline=exchange.deadline, slot=slot, starts=starts
        )
        return True


def reply_answer(exchange: Exchange, model: LiveModel, result: Result) -> None:
    """`/predict`'s reply: who answered, what, and where the time went."""
    done = answered(result)
    timing = done.timing
    if exchange.server.finished is not None:
        exchange.told = told(model, result)
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
        b"batch;desc=%d\r\n"
    ) % (timing.decode, timing.pre, timing.queue, timing.net, timing.post, result.run.rows)
    exchange.reply(200, body, JSON + line)


def told(model: LiveModel, result: Result) -> Told:
    """What logs and traces say of an answer."""
    group = result.group
    stages = {
        "queue": result.queued,
        "decode": group.decode,
        "pre": group.pre,
        "net": group.net,
        "post": group.post,
    }
    return Told(model.name, model.version, result.run.rows, {name: s for name, s in stages.items() if s})


def refuse(exchange: Exchange, problem: Exception) -> None:
    """The reply to what went wrong."""
    if not isinstance(problem, ModelportError):
        raise problem
    asked = f"{exchange.method.decode('latin-1')} {exchange.path.decode('latin-1')}"
    status, words, headers = refusal(problem, asked)
    lines = b"".join(b"%s: %s\r\n" % (name.encode(), value.encode()) for name, value in headers.items())
    exchange.reply_json(status, {"error": words}, lines)


def deadline_of(exchange: Exchange) -> float:
    """When the caller stops waiting, by its `X-Request-Timeout-Ms`; infinity where it does not say.

    Raises:
        InputError: not a positive number.
    """
    value = exchange.headers.get(b"x-request-timeout-ms")
    if value is None:
        return math.inf
    if not re.fullmatch(rb"[0-9]{1,9}(\.[0-9]{1,6})?", value) or not float(value):
        raise InputError(f"X-Request-Timeout-Ms is {value[:20]!r}; expected milliseconds, above 0")
    return time.monotonic() + float(value) / 1e3
