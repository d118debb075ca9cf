"""From the bytes of a ModelInferRequest to those of its answer: on the long way or on the short.

The long way reads every request and works for all of them. What it found out about a plain request (raw
tensors in, numbers out, no wishes) is remembered by the bytes before the tensors: a client that sends the
same head again, and all do but for the id, goes the short way, on which no message is built and no tensor
looked at. The answers are the same.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol
from weakref import WeakKeyDictionary

from google.protobuf.message import DecodeError

from ...bundle.rules import NETWORK_SUFFIX as NET
from ...engine.arena import MIN_SLOT, Slot
from ...engine.model import LiveModel
from ...engine.repository import Repository
from ...engine.submission import Lane, Result
from ...engine.told import Told
from ...engine.wire import Options, TensorHead
from ...errors import InputError
from ...protos.open_inference import ModelInferRequest, ModelInferResponse
from ...tensors import OIP_DATATYPES, dtype_name
from ..dialects.protobuf import varint
from ..infer import due, live, run
from ..oip import InferRequest
from ..options import of_parameters
from .codec import read_request, write_response

Door = Callable[[str], None]
"""Called with the model that is asked for; raises where this caller may not."""


class Asking(Protocol):
    """One request's caller."""

    told: Told | None
    """Who answered, and how; who, here already, and how by the model."""


MAX_HEAD = 4096
"""Bytes of a head that are remembered."""
MAX_KNOWN = 512
"""Heads that are remembered."""
MAX_SHAPES = 8
"""Answers of different shapes that are remembered for one plan."""
_ALIGN = 64
"""Tensors in shared memory begin at multiples of this."""


class Pieces:
    """A request's bytes, cut: the head without the id, the id's field, and the raw tensors."""

    __slots__ = ("head", "identity", "sizes", "tensors")

    def __init__(
        self, head: bytes, identity: bytes, tensors: list[memoryview], sizes: tuple[int, ...]
    ) -> None:
        self.head = head
        self.identity = identity
        self.tensors = tensors
        self.sizes = sizes


class Plan:
    """What a head means for one version of a model."""

    __slots__ = ("answers", "lane", "options", "rows", "sizes", "timeout", "wanted")

    def __init__(
        self,
        lane: Lane,
        rows: int,
        sizes: tuple[int, ...],
        asked: InferRequest,
        options: Options | None,
    ) -> None:
        self.lane = lane
        self.options = options
        self.rows = rows
        self.sizes = sizes
        self.timeout = asked.timeout
        self.wanted = None if asked.outputs is None else [output.name for output in asked.outputs]
        self.answers: dict[tuple[tuple[int, ...], ...], tuple[bytes, list[tuple[int, bytes]]]] = {}
        """By the shapes of a row of each output: the answer's head; the outputs, with what precedes each."""


class Known:
    """A head that was seen before: what it asks for, and its plan for each version that answered it."""

    __slots__ = ("bare", "name", "plans", "version")

    def __init__(self, name: str, version: str) -> None:
        self.name = name
        self.bare = name.removesuffix(NET)
        self.version = version or None
        self.plans: WeakKeyDictionary[LiveModel, Plan] = WeakKeyDictionary()


class Answers:
    """Answers inference requests with the models of a repository."""

    def __init__(self, repository: Repository) -> None:
        self._repository = repository
        self._known: dict[bytes, Known] = {}

    async def __call__(self, data: bytes, door: Door, asking: Asking) -> bytes:
        """The bytes of the ModelInferResponse.

        Raises:
            ModelportError: whatever stands in the way.
        """
        pieces = cut(data)
        known = self._known.get(pieces.head) if pieces is not None else None
        message = None
        if known is None:
            message = read_message(data)
            known = Known(message.model_name, message.model_version)
        door(known.bare)
        model, net = live(self._repository, known.name, known.version)
        plan = known.plans.get(model)
        if plan is not None and pieces is not None and plan.sizes == pieces.sizes:
            return await self._short(model, known, plan, pieces)
        message = message or read_message(data)
        asking.told = Told(model.name, model.version)
        asked = read_request(message)
        reply = await _long(message, asked, model, net)
        if pieces is not None:
            self._remember(pieces, known, _plan(asked, model, net))
        return reply

    def _remember(self, pieces: Pieces, known: Known, found: tuple[LiveModel, Plan] | None) -> None:
        if found is None or len(pieces.head) > MAX_HEAD:
            return
        if len(self._known) >= MAX_KNOWN:
            self._known.clear()
        model, plan = found
        known.plans[model] = plan
        self._known[pieces.head] = known

    async def _short(self, model: LiveModel, known: Known, plan: Plan, pieces: Pieces) -> bytes:
        slot, starts = self._place(pieces)
        result = await model.ask(
            plan.lane,
            plan.rows,
            pieces.tensors,
            due(plan.timeout),
            slot=slot,
            starts=starts,
            options=plan.options,
        )
        shapes = result.run.shapes
        answer = plan.answers.get(shapes)
        if answer is None:
            answer = _answer_head(known.name, model.version, plan, result)
            if len(plan.answers) < MAX_SHAPES:
                plan.answers[shapes] = answer
        parts: list[Any] = [answer[0], pieces.identity]
        for index, before in answer[1]:
            parts += (before, result.blob(index))
        return b"".join(parts)

    def _place(self, pieces: Pieces) -> tuple[Slot | None, list[int]]:
        """Put large tensors where the executors can see them: a copy here saves two through a socket."""
        total = sum(pieces.sizes)
        if total < MIN_SLOT:
            return None, []
        starts, end = [], 0
        for size in pieces.sizes:
            starts.append(end)
            end += -(-size // _ALIGN) * _ALIGN
        slot = self._repository.arena.take(end)
        if slot is not None:
            for number, start in enumerate(starts):
                place = slot.view[start : start + pieces.sizes[number]]
                place[:] = pieces.tensors[number]
                pieces.tensors[number] = place
        return slot, starts


def read_message(data: bytes) -> ModelInferRequest:
    """The request as a message.

    Raises:
        InputError: it is none.
    """
    try:
        return ModelInferRequest.FromString(data)
    except DecodeError as problem:
        raise InputError(f"not a ModelInferRequest: {problem}") from problem


def cut(data: bytes) -> Pieces | None:
    """Cut a request with raw tensors at its end, as every client writes it; None for any other.

    Reads the protobuf wire format of the top level only: of each field its number and its length.
    """
    place, end = 0, len(data)
    head_end = 0
    identity = b""
    skipped = (0, 0)
    view = memoryview(data)
    tensors: list[memoryview] = []
    while place < end:
        tag = data[place]
        size = start = 0
        for shift in range(0, 35, 7):
            start = place + 2 + shift // 7
            if start > end:
                return None
            size |= (data[start - 1] & 0x7F) << shift
            if data[start - 1] < 0x80:
                break
        else:
            return None
        after = start + size
        if after > end:
            return None
        if tag == 0x3A:
            tensors.append(view[start:after])
        elif tag not in (0x0A, 0x12, 0x1A, 0x22, 0x2A, 0x32) or tensors or (tag == 0x1A and identity):
            return None
        elif tag == 0x1A:
            identity, skipped = data[place:after], (place, after)
            head_end = after
        else:
            head_end = after
        place = after
    if not tensors:
        return None
    head = data[: skipped[0]] + data[skipped[1] : head_end]
    return Pieces(head, identity, tensors, tuple([len(tensor) for tensor in tensors]))


async def _long(message: ModelInferRequest, asked: InferRequest, model: LiveModel, net: bool) -> bytes:
    outputs = await run(model, asked, net, due(asked.timeout))
    # Only a network's output has one number for each label; a bundle's answer is ranked already.
    labels = model.bundle.labels() if net and asked.outputs else ()
    name = message.model_name
    return write_response(
        outputs, asked, model=name, version=model.version, labels=labels
    ).SerializeToString()


def _plan(asked: InferRequest, model: LiveModel, net: bool) -> tuple[LiveModel, Plan] | None:
    """The plan of a request that was answered; None where it was not a plain one."""
    manifest = model.bundle.manifest
    if not net and (manifest.decode.kind != "tensors" or manifest.steps.pre):
        return None
    given = manifest.graphs.net.signature.outputs if net else manifest.outputs
    kinds = {dtype_name(array) for array in asked.inputs.values()} | {spec.dtype for spec in given}
    if kinds & {"string", "bool"} or any(output.parameters for output in asked.outputs or ()):
        return None
    heads = tuple(
        TensorHead(name, dtype_name(array), array.shape[1:]) for name, array in asked.inputs.items()
    )
    sizes = tuple(array.nbytes for array in asked.inputs.values())
    rows = len(next(iter(asked.inputs.values())))
    options = None if net else of_parameters(model, asked.parameters)
    return model, Plan(model.lane("net" if net else "rows", heads), rows, sizes, asked, options)


def _answer_head(
    name: str, version: str, plan: Plan, result: Result
) -> tuple[bytes, list[tuple[int, bytes]]]:
    """The answer without id and tensors; and of each output its place in the result and its field's start."""
    reply = ModelInferResponse(model_name=name, model_version=version)
    places = {head.name: index for index, head in enumerate(result.heads)}
    raw = []
    for output in plan.wanted or places:
        index = places[output]
        head = result.heads[index]
        reply.outputs.add(
            name=output, datatype=OIP_DATATYPES[head.dtype], shape=[result.rows, *head.shape[1:]]
        )
        raw.append((index, b"\x32" + varint(len(result.blob(index)))))
    return reply.SerializeToString(), raw
