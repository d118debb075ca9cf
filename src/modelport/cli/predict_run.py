"""Answers of pictures side by side, and of videos with decoding, network and encoding overlapped."""

from __future__ import annotations

import time
from collections import Counter, deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import PurePath
from typing import Any, TypeVar

import msgspec

from ..bundle.store import Bundle
from ..errors import ModelportError, NotFound, Unsupported, UsageError, did_you_mean
from ..media.buffer import Buffer
from ..media.frames import Frame, Source
from ..media.kinds import shown
from ..media.sources import open_source, read_picture, settled_kind
from ..runtimes.form import DEFAULT
from ..runtimes.machine import PACKED
from ..runtimes.pipeline import Pipeline
from ..tensors import Array
from .predict_inputs import Item, item_of
from .predict_keep import Keeper
from .render import progress
from .stopping import Stop

T = TypeVar("T")
R = TypeVar("R")

_RATE_OVER = 30


class Line(msgspec.Struct, omit_defaults=True):
    """One picture's, frame's, row's or text's answer, or why there is none."""

    file: str
    model: str = ""
    version: str = ""
    variant: str = ""
    """The form of the network that answered, where the bundle has several: a variant's name, or `packed`."""
    runtime: str = ""
    """Where the bundle has several forms: what ran the network, unless that is ONNX Runtime."""
    frame: int | msgspec.UnsetType = msgspec.UNSET
    seconds: float | msgspec.UnsetType = msgspec.UNSET
    answer: Any = None
    ms: float = 0.0
    error: str = ""
    row: int | msgspec.UnsetType = msgspec.UNSET
    """Of a file of rows or texts, its line."""


def line_of(pipeline: Pipeline, file: str, **said: Any) -> Line:
    """A line that says what answers; `said` is the rest of it."""
    manifest = pipeline.bundle.manifest
    variant, runtime = answerer(pipeline)
    return Line(file, manifest.name, manifest.version, variant, runtime, **said)


def answerer(pipeline: Pipeline) -> tuple[str, str]:
    """The form that answers and what runs it, as a line says them; empty where that goes without saying."""
    if not pipeline.bundle.manifest.variants:
        return "", ""
    form = pipeline.form
    return form.variant or PACKED, "" if form.runtime == DEFAULT else form.runtime


Answered = tuple[Line, tuple[int, int] | None]
"""A picture's line, and its height and width where something of it is kept."""


class Playing(msgspec.Struct, frozen=True):
    """How videos and streams are read."""

    fps: float | None = None
    frames: int | None = None
    reconnects: int = 5


class Answering:
    """A loaded bundle with the user's options: items in, lines out, outputs kept on the way."""

    def __init__(
        self,
        pipeline: Pipeline,
        keeper: Keeper,
        stop: Stop,
        *,
        options: Mapping[str, Any],
        classes: frozenset[int] | None,
        playing: Playing,
        workers: int,
    ) -> None:
        self.pipeline = pipeline
        self.keeper = keeper
        self.stop = stop
        self.options = dict(options)
        self.classes = classes
        self.playing = playing
        self._ended: deque[float] = deque(maxlen=_RATE_OVER)
        self.workers = workers
        """Items answered side by side."""
        self.failures: Counter[int] = Counter()
        """The exit codes of the errors that stand in lines."""
        self.notes: list[str] = []
        """What was noticed about the sources, a line each: frames that were damaged or dropped."""

    def lines(self, items: Iterable[Item]) -> Generator[Line, None, None]:
        """A line for each picture and frame, in order; ends early where the user wants an end."""
        still: list[Item] = []
        for item in items:
            if not item.moving:
                still.append(item)
                continue
            yield from self._pictures(still)
            still = []
            yield from self.one(item)
        yield from self._pictures(still)

    def one(self, item: Item) -> Iterator[Line]:
        """The lines of one item: one for a picture, one for each frame of a video."""
        if self.stop.wanted:
            return
        try:
            with self.stop.interrupting():
                moving = item.moving and settled_kind(item.name) != "picture"
            if not moving:
                yield from self._pictures([msgspec.structs.replace(item, moving=False)])
            else:
                yield from self._video(item)
        except (Unsupported, UsageError):
            raise
        except ModelportError as problem:
            yield self._failed(item, problem)

    def named(self, names: Buffer[str]) -> Generator[Line, None, None]:
        """A line for each picture and frame of the names that come; none waits for a name after its own."""
        kind = self.pipeline.bundle.manifest.decode.kind
        under_way: deque[tuple[Item, Future[Answered]]] = deque()
        with ThreadPoolExecutor(self.workers) as pool, self.stop.calling(names.stop):
            while not self.stop.wanted:
                name = names.poll() if len(under_way) < 2 * self.workers else None
                if name is None and under_way:
                    yield self._finished(*under_way.popleft())
                    continue
                try:
                    item = item_of(names.take() if name is None else name, kind)
                except StopIteration:
                    break
                if not item.moving:
                    self.keeper.reserve(item)
                    under_way.append((item, pool.submit(self._picture, item)))
                    continue
                while under_way:
                    yield self._finished(*under_way.popleft())
                yield from self.one(item)
            while under_way:
                yield self._finished(*under_way.popleft())

    def _finished(self, item: Item, future: Future[Answered]) -> Line:
        line, size = future.result()
        if size is not None:
            self.keeper.count(item, None, size, line.answer)
        return line

    def _pictures(self, items: list[Item]) -> Iterator[Line]:
        for item in items:
            if not item.problem:
                self.keeper.reserve(item)
        work = side_by_side(self._picture, items, self.workers, 2 * self.workers, self.stop)
        for item, (line, size) in work:
            if size is not None:
                self.keeper.count(item, None, size, line.answer)
            yield line

    def _picture(self, item: Item) -> Answered:
        """One file's line and its picture's height and width."""
        if item.problem:
            return self._failed(item, NotFound(item.problem)), None
        decode = self.pipeline.bundle.manifest.decode
        start = time.perf_counter()
        try:
            decoded = self.pipeline.decode(read_picture(item.name, decode.max_bytes))
            answer = self._answer(decoded)
        except ModelportError as problem:
            return self._failed(item, problem), None
        ms = round((time.perf_counter() - start) * 1e3, 2)
        line = line_of(self.pipeline, shown(item.name), answer=answer, ms=ms)
        if not self.keeper.wanted.anything:
            return line, None
        picture = decoded["image"]
        self.keeper.picture(item, picture, answer, self._caption(ms))
        return line, picture.shape[:2]

    def _video(self, item: Item) -> Iterator[Line]:
        """A line for each frame; what is written is finished however it ends, unless by an error."""
        playing = self.playing
        self.keeper.reserve(item)
        decode = self.pipeline.bundle.manifest.decode
        with self.stop.interrupting():
            opened = open_source(item.name, fps=playing.fps, reconnects=playing.reconnects, decode=decode)
        with opened as source, self.stop.calling(source.stop):
            film = self.keeper.video(item, source)
            total = min(source.total or playing.frames or 0, playing.frames or source.total or 0) or None
            try:
                with progress(PurePath(source.name).name[-32:], total) as bar:
                    for line, picture, seconds in self._frames(item, source):
                        if film is not None and picture is not None:
                            film.write(picture, seconds)
                        bar.advance(bar.task_ids[0])
                        yield line
            except (ModelportError, GeneratorExit):
                # A stream that is gone, and a reader that left (`| head`), leave what came before.
                if film is not None:
                    film.close()
                raise
            except BaseException:
                if film is not None:
                    film.close(keep=False)
                raise
            finally:
                self._note(source)
            if film is not None:
                film.close()

    def _frames(self, item: Item, source: Source) -> Iterator[tuple[Line, Array | None, float]]:
        """Frames answered in order: side by side those of a file, each at once those of a live source."""

        def bounded() -> Iterator[Frame]:
            for number, frame in enumerate(source, 1):
                yield frame
                if number == self.playing.frames:
                    return

        def answered(frame: Frame) -> tuple[Line, Array | None]:
            return self._frame(item, source, frame)

        workers, ahead = (1, 0) if source.live else (self.workers, self.workers)
        first: float | None = None
        for frame, (line, picture) in side_by_side(answered, bounded(), workers, ahead, self.stop):
            first = frame.seconds if first is None else first
            if not line.error:
                self.keeper.count(item, frame.index, frame.picture.shape[:2], line.answer)
            yield line, picture, frame.seconds - first

    def _frame(self, item: Item, source: Source, frame: Frame) -> tuple[Line, Array | None]:
        start = time.perf_counter()
        seconds = round(frame.seconds, 3)
        try:
            answer = self._answer({"image": frame.picture})
        except ModelportError as problem:
            line = self._failed(item, problem)
            line.frame, line.seconds = frame.index, seconds
            return line, frame.picture if self.keeper.wanted.save else None
        ms = round((time.perf_counter() - start) * 1e3, 2)
        where = {"frame": frame.index, "seconds": seconds}
        line = line_of(self.pipeline, source.name, **where, answer=answer, ms=ms)
        return line, self.keeper.frame(item, frame.index, frame.picture, answer, self._caption(ms, rate=True))

    def _answer(self, decoded: Mapping[str, Array]) -> Any:
        answer = self.pipeline.readable(self.pipeline.answer(decoded, self.options))
        if self.classes is not None and isinstance(answer, list):
            answer = [found for found in answer if found.get("class") in self.classes]
        return answer

    def _caption(self, ms: float, *, rate: bool = False) -> str:
        """The time of an answer, and of a video's frame how many a second there are."""
        if not self.keeper.wanted.timing:
            return ""
        ended = self._ended
        ended.append(time.perf_counter())
        if not rate or len(ended) < 2:
            return f"{ms:.1f} ms"
        return f"{ms:.1f} ms  {(len(ended) - 1) / max(ended[-1] - ended[0], 1e-6):.1f}/s"

    def _failed(self, item: Item, problem: ModelportError) -> Line:
        self.failures[problem.exit_code] += 1
        return line_of(self.pipeline, shown(item.name), error=str(problem))

    def _note(self, source: Source) -> None:
        """What the user should know of a source that was read."""
        words = source.notes(whole=not self.stop.wanted and self.playing.frames is None)
        if words:
            self.notes.append(f"{source.name}: {', '.join(words)}")


def side_by_side(
    work: Callable[[T], R], items: Iterable[T], workers: int, ahead: int, stop: Stop
) -> Iterator[tuple[T, R]]:
    """Each item with its result, in order, up to `ahead` more under way; none is begun after `stop`."""
    with ThreadPoolExecutor(workers) as pool:
        under_way: deque[tuple[T, Future[R]]] = deque()
        for item in items:
            if stop.wanted:
                break
            under_way.append((item, pool.submit(work, item)))
            if len(under_way) > ahead:
                done, future = under_way.popleft()
                yield done, future.result()
        while under_way:
            done, future = under_way.popleft()
            yield done, future.result()


def classes_of(bundle: Bundle, names: str) -> frozenset[int]:
    """The class numbers of `person,bus` or `0,5`.

    Raises:
        UsageError: the bundle has no such class, or its answers have no classes.
    """
    if "classes" not in {spec.name for spec in bundle.manifest.outputs}:
        raise UsageError(f"the answers of {bundle.manifest.name} are no detections with classes")
    labels = bundle.labels()
    found = set()
    for name in filter(None, (part.strip() for part in names.split(","))):
        if name in labels:
            found |= {index for index, label in enumerate(labels) if label == name}
        elif name.isdecimal() and (not labels or int(name) < len(labels)):
            found.add(int(name))
        elif name.isdecimal():
            raise UsageError(
                f"{bundle.manifest.name} has no class {name}; its classes are 0 to {len(labels) - 1}"
            )
        else:
            raise UsageError(f"{bundle.manifest.name} has no class {name!r}", hint=did_you_mean(name, labels))
    if not found:
        raise UsageError("--classes names no class")
    return frozenset(found)
