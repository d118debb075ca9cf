"""What the server and an executor process say to each other: bytes only, never pickles.

A frame is its lengths, the payload (tensors, row-major and little-endian; or encoded files) and a
msgpack head that says what the payload is. Large inputs are not in the frame: their head names a place in
the arena, memory that both processes have mapped.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from typing import Any, Literal

import msgspec
import numpy as np

from .. import errors
from ..bundle.held import Piece
from ..errors import ModelFailed, ModelportError
from ..runtimes.machine import PACKED
from ..tensors import Array, numpy_dtype, object_array, pack_text

FRAME = struct.Struct("<QII")
"""Bytes of the payload, of the head, and four of padding: the payload then starts on 16 bytes."""

Kind = Literal["net", "rows", "encoded", "decoded", "golden"]
"""`net`: prepared tensors to raw outputs. `rows`: the same and then the answer. `encoded`, `decoded`: items
to answers. `golden`: one of the bundle's own cases, replayed."""

_LENGTH = struct.Struct("<I")
_ZEROS = re.compile(rb"\0*")

INLINE = -1
"""The offset of what is in the frame itself and not in the arena."""


class Spec(msgspec.Struct, frozen=True):
    """What an executor is told on its command line, as JSON."""

    bundle: str
    socket: int
    arena: int
    arena_size: int
    digest: str
    held: Piece | None = None
    """The index of the bundle's files that are inherited; None for those that are at `bundle` now."""
    runtime: str | None = None
    threads: int = 1
    wide: int = 0
    """Threads of a second session, for a lone request; 0 for none."""
    max_rows: int = 32
    check: bool = True
    """Whether to replay the golden cases and to try what batches cost, before it answers."""


class TensorHead(msgspec.Struct, array_like=True, frozen=True):
    """A tensor of a lane: `shape` is that of one row; of decoded items only its length counts."""

    name: str
    dtype: str
    shape: tuple[int, ...]


Options = dict[str, float | int | bool]
"""What a caller chose of the bundle's options, by name; judged before it comes here."""


Shapes = tuple[tuple[int, ...], ...]


class Job(msgspec.Struct, array_like=True):
    """One batch for an executor: for every submission its rows, a place for each of its tensors, its options.

    The network knows nothing of options, so that submissions with different ones share a batch.
    """

    number: int
    kind: Kind
    tensors: tuple[TensorHead, ...]
    rows: list[int]
    places: list[tuple[int, int]]
    wide: bool = False
    options: list[Options | None] | None = None
    """None where no submission has any."""
    shapes: list[Shapes] | None = None
    """Of decoded items, whose sizes need not be alike: for every submission the shape of each tensor."""


class OutHead(msgspec.Struct, array_like=True, frozen=True):
    """An output tensor: `shape` has the rows in front."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    size: int


class Problem(msgspec.Struct, array_like=True, frozen=True):
    """An error on its way between processes."""

    kind: str
    message: str
    at: str | None = None
    hint: str | None = None

    @classmethod
    def of(cls, problem: Exception) -> Problem:
        """What is told of an exception; one that is not ours is told by its type only."""
        if isinstance(problem, ModelportError):
            return cls(type(problem).__name__, problem.message, problem.at, problem.hint)
        return cls("ModelFailed", f"the model's process raised {type(problem).__name__}")

    def error(self) -> ModelportError:
        """The exception again; an unknown kind is a ModelFailed."""
        kind = getattr(errors, self.kind, None)
        if not (isinstance(kind, type) and issubclass(kind, ModelportError)):
            kind = ModelFailed
        made = kind(self.message)
        made.at, made.hint = self.at, self.hint
        return made


class Group(msgspec.Struct, array_like=True):
    """What came of `count` neighbouring submissions that ran together: outputs, or one problem.

    The times are seconds: decoding and preparing an item on the average, the network and what follows
    it as a whole.
    """

    count: int
    outputs: tuple[OutHead, ...] = ()
    problem: Problem | None = None
    decode: float = 0.0
    pre: float = 0.0
    net: float = 0.0
    post: float = 0.0


class Reply(msgspec.Struct, array_like=True):
    """What an executor says of a job; `seconds` is how long it was busy with it."""

    number: int
    groups: list[Group]
    seconds: float

    def apart(self) -> float:
        """The seconds of it that went into decoding and preparing, item by item."""
        return sum([(group.decode + group.pre) * group.count for group in self.groups])


class Runs(msgspec.Struct, array_like=True, frozen=True):
    """What answers in an executor: the form of the network, and what runs it."""

    variant: str = ""
    """A variant's name, or `packed`."""
    runtime: str = ""

    def __str__(self) -> str:
        """`variant heads on onnxruntime`, `the network as packed on openvino`."""
        form = "the network as packed" if self.variant == PACKED else f"variant {self.variant}"
        return f"{form} on {self.runtime}"


class Ready(msgspec.Struct, array_like=True):
    """The first frame of an executor: it answers, or why it does not.

    `costs` holds (rows, seconds) of trial runs of the network; `golden` how the replay went (absolute
    difference of the network), or None where there was none.
    """

    problem: Problem | None = None
    costs: list[tuple[int, float]] = []
    golden: float | None = None
    memory: int = 0
    runs: Runs = Runs()


_encoder = msgspec.msgpack.Encoder()
_reply_decoder = msgspec.msgpack.Decoder(Reply)
_ready_decoder = msgspec.msgpack.Decoder(Ready)
_job_decoder = msgspec.msgpack.Decoder(Job)
decode_reply = _reply_decoder.decode
decode_ready = _ready_decoder.decode
decode_job = _job_decoder.decode


def frame(head: msgspec.Struct, payload: Sequence[Any]) -> list[Any]:
    """The parts of a frame, to be written one after the other."""
    text = _encoder.encode(head)
    size = 0
    for part in payload:
        size += len(part)
    return [FRAME.pack(size, len(text), 0), *payload, text]


def pack_tensor(array: Array) -> memoryview | bytes:
    """A tensor's bytes; text as the Open Inference Protocol has it, each element behind its length."""
    if array.dtype.kind in "OUS":
        return pack_text(array)
    if not array.size:
        return b""
    return np.ascontiguousarray(array).data.cast("B")


def unpack_tensor(data: memoryview, dtype: str, shape: Sequence[int]) -> Array:
    """The tensor again: a view of `data` where its alignment allows, text as an object array of str."""
    if dtype != "string":
        array = np.frombuffer(data, numpy_dtype(dtype)).reshape(shape)
        return array if array.flags.aligned else array.copy()
    items: list[str] = []
    start = 0
    text = bytes(data)
    while start < len(text):
        (size,) = _LENGTH.unpack_from(text, start)
        if size:
            end = start + 4 + size
            items.append(text[start + 4 : end].decode())
            start = end
            continue
        # A detector's answer is mostly empty labels: they are told by their zeros, all at once.
        empty = _ZEROS.match(text, start)
        assert empty is not None
        count = (empty.end() - start) // 4
        items += [""] * count
        start += 4 * count
    return object_array(items, shape)
