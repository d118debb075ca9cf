"""What the machine can do without a server: the same work called in-process, in one process or in two.

Two processes wait for jobs, so that a measurement of the limit takes a second and can stand between any two
measurements of a server. Each runs ONNX Runtime with one thread.
"""

from __future__ import annotations

import multiprocessing
import os
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from types import TracebackType
from typing import Any

from .models import INPUT, MODELS, SLEEP, Array, Model, repository

BATCHES = (1, 2, 4, 8, 16, 32)
KEPT = 4
"""Pieces of work that a process keeps loaded."""


@dataclass(frozen=True)
class Network:
    """The bare network on batches of random items."""

    model: str
    rows: int = 1
    threads: int | None = 1
    """None leaves them to ONNX Runtime: one for each core, spinning."""

    def prepare(self) -> Callable[[], int]:
        """A function that runs once and says how many items that were."""
        session, batch = open_session(MODELS[self.model].path, self.threads), MODELS[self.model].example
        feeds = {INPUT: batch(self.rows)}

        def call() -> int:
            session.run(None, feeds)
            return self.rows

        return call


@dataclass(frozen=True)
class Pictures:
    """Encoded pictures to labels, one after the other: decode, resize, normalise, network, labels."""

    files: tuple[Path, ...]
    by: str
    """`tutorial` (Pillow and NumPy by hand) or `pipeline` (`modelport.Pipeline`, in-process)."""
    threads: int | None = 1
    """Of the network; None for one on each core."""

    def prepare(self) -> Callable[[], int]:
        """A function that answers every picture once and says how many they were."""
        pictures = [file.read_bytes() for file in self.files]
        if self.by == "tutorial":
            from .peers.tutorial import answer

            session = open_session(MODELS["conv"].path, self.threads)
            one: Callable[[bytes], Any] = lambda data: answer(session, data)  # noqa: E731
        else:
            import modelport

            folder = repository("conv", "imagenet") / "conv" / "1"
            pipeline = modelport.Pipeline.open(folder, threads=self.threads or os.cpu_count() or 1)
            one = lambda data: pipeline.readable(pipeline.answer(pipeline.decode(data)))  # noqa: E731

        def call() -> int:
            for data in pictures:
                one(data)
            return len(pictures)

        return call


@dataclass(frozen=True)
class Sleep:
    """A run of the model that sleeps, asked for more punctually than any server could."""

    rows: int

    def prepare(self) -> Callable[[], int]:
        """A function that sleeps once and says for how many rows."""
        seconds = SLEEP[0] + SLEEP[1] * self.rows

        def call() -> int:
            time.sleep(seconds)
            return self.rows

        return call


Work = Network | Pictures | Sleep


@dataclass(frozen=True)
class Pace:
    """How fast work went."""

    rate: float
    """Items a second, of all processes together."""
    cpu: float
    """Processor seconds for one item."""
    median: float
    """Seconds of one call."""


class Limit:
    """The two processes; use it in a `with` block."""

    def __init__(self) -> None:
        self._best: dict[str, int] = {}
        self._workers: list[tuple[multiprocessing.process.BaseProcess, Connection]] = []

    def __enter__(self) -> Limit:
        context = multiprocessing.get_context("spawn")
        for _ in range(2):
            ours, theirs = context.Pipe()
            process = context.Process(target=_serve_jobs, args=(theirs,), daemon=True)
            process.start()
            theirs.close()
            self._workers.append((process, ours))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        for process, connection in self._workers:
            connection.close()
            process.join(10)

    def pace(self, work: Work, seconds: float, processes: int = 1) -> Pace:
        """Do the work over and over for `seconds`, in one process or in both at once."""
        workers = self._workers[:processes]
        for _, connection in workers:
            connection.send(work)
        for _, connection in workers:
            connection.recv()  # loaded and warm: both start together
        for _, connection in workers:
            connection.send(seconds)
        done: list[Pace] = [connection.recv() for _, connection in workers]
        return Pace(
            sum(pace.rate for pace in done),
            statistics.mean(pace.cpu for pace in done),
            statistics.median(pace.median for pace in done),
        )

    def best_batch(self, model: Model) -> int:
        """The batch size with the most items a second in one process: the median of three sweeps."""
        if model.name not in self._best:
            rates: dict[int, list[float]] = {rows: [] for rows in BATCHES}
            for _ in range(3):
                for rows, seen in rates.items():
                    seen.append(self.pace(Network(model.name, rows), 0.4).rate)
            self._best[model.name] = max(BATCHES, key=lambda rows: statistics.median(rates[rows]))
        return self._best[model.name]


def open_session(path: Path, threads: int | None) -> Any:
    """ONNX Runtime's own session, with so many threads or with its defaults."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def right_answer(model: Model) -> Array:
    """What the network says to its example, as float32 [outputs]."""
    (answer,) = open_session(model.path, 1).run(None, {INPUT: model.example()})
    return answer[0]  # type: ignore[no-any-return]


def _serve_jobs(connection: Connection) -> None:
    """In a worker: work comes in, then seconds; out goes a Pace. The last few stay loaded."""
    loaded: dict[Work, Callable[[], int]] = {}
    while True:
        try:
            work = connection.recv()
            if work not in loaded:
                if len(loaded) == KEPT:
                    loaded.clear()
                loaded[work] = work.prepare()
                loaded[work]()
            connection.send("loaded")
            connection.send(_pace(loaded[work], connection.recv()))
        except (EOFError, KeyboardInterrupt):
            return


def _pace(call: Callable[[], int], seconds: float) -> Pace:
    times: list[float] = []
    items = 0
    cpu, start = time.process_time(), time.perf_counter()
    now = start
    while now - start < seconds:
        items += call()
        before, now = now, time.perf_counter()
        times.append(now - before)
    return Pace(items / (now - start), (time.process_time() - cpu) / items, statistics.median(times))
