"""The process in which a bundle runs: reads jobs from a socket, answers them, and ends with its parent.

A process of its own, because then a graph that crashes takes nobody with it, an unloaded version gives
back all its memory, and the network computes without ever waiting for the server's interpreter lock.
Started by `start.py`.
"""

from __future__ import annotations

import contextlib
import mmap
import socket
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import msgspec
import numpy as np

from ..bundle.held import HeldFiles
from ..bundle.store import Bundle
from ..errors import InputError, ModelFailed, ModelportError, ParityFailed
from ..runtimes.machine import PACKED
from ..runtimes.pipeline import Pipeline
from ..tensors import Array, Tensors, dtype_name
from ..verify.replay import replay
from .slots import Slots
from .trial import trial_costs
from .wire import (
    FRAME,
    INLINE,
    Group,
    Job,
    Options,
    OutHead,
    Problem,
    Ready,
    Reply,
    Runs,
    Spec,
    decode_job,
    frame,
    pack_tensor,
    unpack_tensor,
)


class Executor:
    """A loaded pipeline and the jobs it runs."""

    def __init__(self, pipeline: Pipeline, wide: Pipeline | None, arena: memoryview) -> None:
        self._pipeline = pipeline
        self._wide = wide or pipeline
        self._arena = arena

    def run(self, job: Job, payload: memoryview) -> tuple[Reply, list[memoryview | bytes]]:
        """One job: its reply, and the bytes of the outputs in the reply's order."""
        began = time.perf_counter()
        data: list[memoryview | bytes] = []
        if job.kind == "golden":
            groups = [self._golden(job.rows[0])]
        else:
            pipeline = self._wide if job.wide else self._pipeline
            rows_alone = job.kind in ("net", "rows")
            work = self._batches if rows_alone else self._items
            groups = work(pipeline, job, _Places(job, payload, self._arena), data)
        return Reply(job.number, groups, time.perf_counter() - began), data

    def _batches(
        self,
        pipeline: Pipeline,
        job: Job,
        places: _Places,
        data: list[memoryview | bytes],
    ) -> list[Group]:
        def run(first: int, last: int) -> tuple[dict[str, Array], Group]:
            rows = job.rows[first:last]
            batch: Tensors = places.rows(first, last)
            group = Group(last - first)
            start = time.perf_counter()
            if job.kind == "rows" and pipeline.bundle.manifest.columns:
                batch = pipeline.pre_rows(batch)
                group.pre = (time.perf_counter() - start) / (last - first)
                start = time.perf_counter()
            outputs = pipeline.packed(batch) if job.kind == "net" else pipeline.net(batch)
            group.net = time.perf_counter() - start
            if job.kind == "rows":
                start = time.perf_counter()
                outputs = _posted(pipeline, outputs, _by_row(job.options, job.rows, first, last))
                group.post = time.perf_counter() - start
            return _checked(outputs, sum(rows)), group

        return _halving(run, 0, len(job.rows), data)

    def _items(
        self,
        pipeline: Pipeline,
        job: Job,
        places: _Places,
        data: list[memoryview | bytes],
    ) -> list[Group]:
        """Decode and prepare each item into its slot; neighbours that share a shape share a run."""
        count = len(job.rows)
        prepared: list[Tensors | Exception] = []
        slots = Slots(count)
        decode = pre = 0.0
        for item in range(count):
            start = time.perf_counter()
            middle = start
            try:
                decoded = _decoded(pipeline, job, item, places.item(item))
                middle = time.perf_counter()
                made = pipeline.pre(decoded, slots.of(item))
                slots.put(item, made)
                prepared.append(made)
            except Exception as problem:  # noqa: BLE001 - an item's own failure, told to its own caller
                prepared.append(problem)
            decode += middle - start
            pre += time.perf_counter() - middle
        groups: list[Group] = []
        start_at = 0
        while start_at < count:
            end = start_at + 1
            first = prepared[start_at]
            if isinstance(first, Exception):
                groups.append(Group(1, problem=Problem.of(first)))
                start_at = end
                continue
            while end < count and _alike(first, prepared[end]):
                end += 1
            groups += _halving(_answering(pipeline, prepared, slots, job.options), start_at, end, data)
            start_at = end
        for group in groups:
            group.decode, group.pre = decode / count, pre / count
        return groups

    def _golden(self, case: int) -> Group:
        try:
            report = replay(self._pipeline, [case])
        except ModelportError as problem:
            return Group(1, problem=Problem.of(problem))
        if not report.ok:
            return Group(1, problem=Problem("ParityFailed", report.reason))
        return Group(1, net=report.max_difference)


def _answering(
    pipeline: Pipeline,
    prepared: Sequence[Tensors | Exception],
    slots: Slots,
    options: Sequence[Options | None] | None,
) -> Callable[[int, int], tuple[dict[str, Array], Group]]:
    def run(first: int, last: int) -> tuple[dict[str, Array], Group]:
        rows = [row for row in prepared[first:last] if not isinstance(row, Exception)]
        batch = slots.batch(rows, first)
        group = Group(last - first)
        start = time.perf_counter()
        raw = pipeline.net(batch)
        middle = time.perf_counter()
        for name in pipeline.carried:
            raw[name] = batch[name]
        answer = _posted(pipeline, raw, options and options[first:last])
        group.net, group.post = middle - start, time.perf_counter() - middle
        return _checked(answer, last - first), group

    return run


def _by_row(
    options: Sequence[Options | None] | None, rows: Sequence[int], first: int, last: int
) -> list[Options | None] | None:
    """The options of every row of neighbouring submissions."""
    if options is None:
        return None
    return [options[at] for at in range(first, last) for _ in range(rows[at])]


def _posted(
    pipeline: Pipeline, raw: dict[str, Array], options: Sequence[Options | None] | None
) -> dict[str, Array]:
    """The answer, each row by its own options; rows that chose the same go through `post` together."""
    if options is None:
        return pipeline.post(raw)
    alike: dict[frozenset[tuple[str, float]], list[int]] = {}
    for row, chosen in enumerate(options):
        alike.setdefault(frozenset((chosen or {}).items()), []).append(row)
    if len(alike) == 1:
        return pipeline.post(raw, options[0])
    parts = []
    for rows in alike.values():
        part = {name: array[rows] for name, array in raw.items()}
        parts.append(_checked(pipeline.post(part, options[rows[0]]), len(rows)))
    order = np.argsort([row for rows in alike.values() for row in rows])
    return {name: np.concatenate([part[name] for part in parts])[order] for name in parts[0]}


def _halving(
    run: Callable[[int, int], tuple[dict[str, Array], Group]],
    first: int,
    last: int,
    data: list[memoryview | bytes],
) -> list[Group]:
    """Run submissions together, and where that fails, halve until the guilty one is alone."""
    try:
        outputs, group = run(first, last)
    except Exception as problem:  # noqa: BLE001 - the edge of a batch: every submission gets its own
        if last - first == 1:
            return [Group(1, problem=Problem.of(problem))]
        middle = (first + last) // 2
        return _halving(run, first, middle, data) + _halving(run, middle, last, data)
    heads = []
    for name, array in outputs.items():
        packed = pack_tensor(array)
        heads.append(OutHead(name, dtype_name(array), array.shape, len(packed)))
        data.append(packed)
    group.outputs = tuple(heads)
    return [group]


def _decoded(pipeline: Pipeline, job: Job, item: int, piece: Sequence[memoryview]) -> Tensors:
    if job.shapes is None:
        return pipeline.decode(bytes(piece[0]))
    return {
        head.name: unpack_tensor(data, head.dtype, shape)
        for head, data, shape in zip(job.tensors, piece, job.shapes[item], strict=True)
    }


class _Places:
    """Where the tensors of a job's submissions lie: in its payload, or in the arena."""

    def __init__(self, job: Job, payload: memoryview, arena: memoryview) -> None:
        self._job = job
        self._payload = payload
        self._arena = arena
        self._width = max(1, len(job.tensors))
        self._starts: list[int] = []
        start = 0
        self._together = True
        """Whether everything is in the payload, one behind the other."""
        for offset, size in job.places:
            self._starts.append(start if offset == INLINE else offset)
            if offset == INLINE:
                start += size
            else:
                self._together = False

    def item(self, number: int) -> list[memoryview]:
        """The bytes of each tensor of one submission."""
        return [self._bytes(place) for place in range(number * self._width, (number + 1) * self._width)]

    def rows(self, first: int, last: int) -> dict[str, Array]:
        """The tensors of neighbouring submissions, as one batch."""
        job = self._job
        rows = job.rows[first:last]
        if self._together and self._width == 1:
            head = job.tensors[0]
            end = self._starts[last] if last < len(self._starts) else len(self._payload)
            data = self._payload[self._starts[first] : end]
            if head.dtype != "string":
                return {head.name: unpack_tensor(data, head.dtype, (sum(rows), *head.shape))}
        batch = {}
        for index, head in enumerate(job.tensors):
            parts = [
                unpack_tensor(self._bytes(number * self._width + index), head.dtype, (count, *head.shape))
                for number, count in enumerate(rows, first)
            ]
            batch[head.name] = parts[0] if len(parts) == 1 else np.concatenate(parts)
        return batch

    def _bytes(self, place: int) -> memoryview:
        offset, size = self._job.places[place]
        start = self._starts[place]
        return (self._payload if offset == INLINE else self._arena)[start : start + size]


def _alike(first: Tensors, other: Tensors | Exception) -> bool:
    return not isinstance(other, Exception) and all(
        name in other and other[name].shape == array.shape for name, array in first.items()
    )


def _checked(outputs: dict[str, Array], rows: int) -> dict[str, Array]:
    """Raises ModelFailed where an output does not have one row for each row that went in."""
    for name, array in outputs.items():
        if array.ndim == 0 or len(array) != rows:
            raise ModelFailed(f"output {name!r} has shape {list(array.shape)} for a batch of {rows} rows")
    return outputs


def opened(told: str) -> Callable[[], None]:
    """Load; what is returned says so, and answers until the other end of the socket is closed.

    Args:
        told: a `Spec` as JSON.
    """
    spec = msgspec.json.decode(told, type=Spec)
    link = socket.socket(fileno=spec.socket)
    arena = memoryview(mmap.mmap(spec.arena, spec.arena_size))
    loaded = _load(spec, arena)

    def answer() -> None:
        with contextlib.suppress(OSError):  # the server hung up: nobody is left to be told
            if isinstance(loaded, Ready):
                _send(link, loaded, [])
                return
            executor, ready = loaded
            _send(link, ready, [])
            _answer(link, executor)

    return answer


def _answer(link: socket.socket, executor: Executor) -> None:
    """Jobs one after the other; while one runs, the next may wait in the socket."""
    buffer = bytearray(1 << 16)
    have = 0
    while True:
        start, middle, end = _frame_bounds(buffer, have)
        if have >= end:
            view = memoryview(buffer)
            reply, data = executor.run(decode_job(view[middle:end]), view[start:middle])
            _send(link, reply, data)
            buffer[: have - end] = buffer[end:have]
            have -= end
            continue
        if end > len(buffer):
            buffer = buffer[:have].ljust(end, b"\0")
        got = link.recv_into(memoryview(buffer)[have:])
        if not got:
            return
        have += got


def _frame_bounds(buffer: bytearray, have: int) -> tuple[int, int, int]:
    """Where the first frame's payload begins and ends, and where the frame ends, as far as is known."""
    if have < FRAME.size:
        return FRAME.size, FRAME.size, FRAME.size
    size, head, _ = FRAME.unpack_from(buffer)
    return FRAME.size, FRAME.size + size, FRAME.size + size + head


def _load(spec: Spec, arena: memoryview) -> tuple[Executor, Ready] | Ready:
    try:
        bundle = _bundle(spec)
        if bundle.digest != spec.digest:
            raise InputError("the bundle was changed on disk since it was opened", hint="load it again")
        if spec.check:
            bundle.verify_files()
        pipeline = Pipeline.open(bundle, threads=spec.threads, runtime=spec.runtime)
        wide = Pipeline.open(bundle, threads=spec.wide, runtime=spec.runtime) if spec.wide else None
        golden = _replayed(pipeline) if spec.check else None
        costs = trial_costs(pipeline, spec.max_rows, seconds=0.4 if spec.check else 0.0)
        if wide is not None:
            trial_costs(wide, 1, seconds=0.0)  # OpenVINO compiles in the first run: no request's affair
    except ModelportError as problem:
        return Ready(Problem.of(problem))
    runs = Runs(pipeline.variant or PACKED, pipeline.form.runtime)
    return Executor(pipeline, wide, arena), Ready(None, costs, golden, runs=runs)


def _bundle(spec: Spec) -> Bundle:
    if spec.held is None:
        return Bundle.open(spec.bundle)
    return Bundle.inherited(HeldFiles.inherited(Path(spec.bundle), spec.held))


def _replayed(pipeline: Pipeline) -> float | None:
    golden = pipeline.bundle.manifest.golden
    if golden is None or not golden.cases:
        return None
    report = replay(pipeline)
    if not report.ok:
        raise ParityFailed(f"its golden cases do not replay on this machine: {report.reason}")
    return report.max_difference


def _send(link: socket.socket, head: msgspec.Struct, data: Sequence[memoryview | bytes]) -> None:
    parts = frame(head, data)
    link.sendall(parts[0] + parts[-1] if len(parts) == 2 else b"".join(parts))
