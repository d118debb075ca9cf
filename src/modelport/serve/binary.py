"""Tensors in binary, from the socket to the queue and back: the shortest way there is.

What a request's JSON says is worked out once for each version of a model, and remembered by its bytes.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from itertools import accumulate, pairwise
from math import inf
from typing import Any

import msgspec

from ..engine.model import LiveModel
from ..engine.repository import Repository
from ..engine.submission import Lane, Result, Submission
from ..engine.told import told
from ..engine.wire import TensorHead
from ..tensors import OIP_DATATYPES
from .compress import MIN_BYTES
from .exchange import CLOSE, SAFE, Exchange
from .infer import live
from .oip import BinaryHead, parse_binary_head
from .short_replies import refuse

Plans = dict[LiveModel, dict[bytes, "Plan"]]

MAX_HEAD = 4096
"""Bytes of JSON that are remembered; longer heads take the long way."""
MAX_KNOWN = 512
"""Heads remembered for one version of a model."""
_PACKS = 64 << 10
"""Replies to larger requests are compressed where the caller accepts it and they are large enough; that is
the long way."""


class Plan:
    """What one head of JSON means for one version of a model, and the head of the answer to it."""

    __slots__ = ("answers", "head", "lane", "name", "size")

    def __init__(self, lane: Lane, name: str, head: BinaryHead) -> None:
        self.lane = lane
        self.name = name
        self.head = head
        self.size = sum(head.sizes)
        self.answers: dict[tuple[tuple[int, ...], ...], tuple[list[int], bytes, bytes]] = {}
        """By the shapes of a row of each output: which go out, the reply's lines, and its JSON."""


class BinaryTensors:
    """`POST /v2/models/NAME.net[/versions/VERSION]/infer` with every tensor in binary.

    Args:
        authorize: called with the exchange and the model's name; raises for a caller who may not.
        plans: what heads mean, by version of a model; shared by all paths.
        shown: the name as the path has it. name: without the suffix for the network.
    """

    __slots__ = ("_authorize", "_name", "_plans", "_repository", "_shown", "_version")

    def __init__(
        self,
        repository: Repository,
        authorize: Callable[[Exchange, str], None],
        plans: Plans,
        shown: str,
        name: str,
        version: str | None,
    ) -> None:
        self._repository = repository
        self._authorize = authorize
        self._plans = plans
        self._shown = shown
        self._name = name
        self._version = version

    def reads(self, exchange: Exchange) -> bool:
        """Whether a request with this head may be one; what it asks of the head is asked once for a head."""
        length = exchange.headers.get(b"inference-header-content-length", b"")
        if not length.isdigit() or len(length) > 8 or not 0 < int(length) <= MAX_HEAD:
            return False
        exchange.head.json_size = int(length)
        return True

    def __call__(self, exchange: Exchange) -> bool:
        """Queue the request; false where it is none of these after all."""
        name = self._name
        if name not in self._repository:
            return False
        self._authorize(exchange, name)
        model, _ = live(self._repository, self._shown, self._version)
        body = exchange.body
        size = exchange.head.json_size
        text = bytes(body[:size])
        try:
            plan = self._plans[model][text]
        except KeyError:
            found = self._learn(model, text)
            if found is None:
                return False
            plan = found
        head = plan.head
        if len(body) - size != plan.size:
            return False
        if len(body) > _PACKS and head.answer_size >= MIN_BYTES and b"accept-encoding" in exchange.headers:
            return False
        start = exchange.slot_start + size
        if len(head.sizes) == 1:
            data = [body[size:]]
            starts = [start]
        else:
            ends = list(accumulate(head.sizes, initial=size))
            data = [body[first:last] for first, last in pairwise(ends)]
            starts = [exchange.slot_start + first for first in ends[:-1]]
        now = time.monotonic()
        deadline = exchange.deadline
        if head.timeout is not None:
            deadline = min(deadline, now + head.timeout)
        elif deadline == inf:
            deadline = now + model.settings.timeout
        submission = _Asked(plan, model, exchange, data, now, deadline, starts)
        exchange.submission = submission
        model.enqueue(submission)
        return True

    def _learn(self, model: LiveModel, text: bytes) -> Plan | None:
        """Read a head of JSON; None for one that the long way must read."""
        plans = self._plans.setdefault(model, {})
        head = parse_binary_head(text, model.bundle.manifest.graphs.net.signature)
        if head is None:
            return None
        tensors = tuple(TensorHead(spec.name, spec.dtype, shape) for spec, shape in head.inputs)
        plan = Plan(model.lane("net", tensors), self._shown, head)
        if not head.identity:
            if len(plans) >= MAX_KNOWN:
                plans.clear()
            plans[text] = plan
        return plan


class _Asked(Submission):
    """A submission that knows how to answer its exchange: no function is made for it."""

    __slots__ = ("_exchange", "_model", "_plan")

    def __init__(
        self,
        plan: Plan,
        model: LiveModel,
        exchange: Exchange,
        data: list[Any],
        now: float,
        deadline: float,
        starts: list[int],
    ) -> None:
        slot, exchange.slot = exchange.slot, None
        super().__init__(plan.lane, plan.head.rows, data, _unused, now, deadline, slot, starts)
        self._plan = plan
        self._model = model
        self._exchange = exchange

    def tell(self, result: Result | Exception) -> None:
        exchange = self._exchange
        exchange.submission = None
        if not isinstance(result, Result):
            exchange.counted = True
            refuse(exchange, result)
            return
        plan = self._plan
        run = result.run
        known = plan.answers.get(run.shapes)
        if known is None:
            known = _answer_head(plan, self._model.version, result)
            if len(plan.answers) < 8:
                plan.answers[run.shapes] = known
        indexes, lines, text = known
        if exchange.server.finished is not None:
            exchange.told = told(self._model.name, self._model.version, result)
        line = run.line
        if not line:
            line = run.line = b", net;dur=%.3f, batch;desc=%d\r\n" % (run.group.net * 1e3, run.rows)
        head = b"%bServer-Timing: total;dur=%.3f, queue;dur=%.3f%b%b\r\n%b" % (
            lines,
            result.seconds * 1e3,
            result.queued * 1e3,
            line,
            CLOSE if exchange.closes else b"",
            text,
        )
        if len(indexes) == 1:
            exchange.send([head, result.blob(indexes[0])])
        else:
            exchange.send([head, *map(result.blob, indexes)])


def _answer_head(plan: Plan, version: str, result: Result) -> tuple[list[int], bytes, bytes]:
    """Which outputs go out, the reply's first lines, and its JSON, for answers of these shapes."""
    names = [head.name for head in result.heads]
    wanted = plan.head.outputs
    indexes = [names.index(name) for name in wanted] if wanted else list(range(len(names)))
    entries: list[dict[str, Any]] = []
    size = 0
    for index in indexes:
        head = result.heads[index]
        width = len(result.blob(index))
        size += width
        entries.append(
            {
                "name": head.name,
                "datatype": OIP_DATATYPES[head.dtype],
                "shape": [result.rows, *head.shape[1:]],
                "parameters": {"binary_data_size": width},
            }
        )
    who = {"id": plan.head.identity} if plan.head.identity else {}
    text = msgspec.json.encode({**who, "model_name": plan.name, "model_version": version, "outputs": entries})
    lines = (
        b"HTTP/1.1 200 OK\r\nContent-Type: application/octet-stream\r\n%s"
        b"Inference-Header-Content-Length: %d\r\nContent-Length: %d\r\n"
    ) % (SAFE, len(text), len(text) + size)
    return indexes, lines, text


def _unused(result: Result | Exception) -> None:
    """An `_Asked` answers by itself."""
