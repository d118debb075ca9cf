"""What `modelport predict` keeps beside its answers: annotated pictures and videos, labels, crops."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path, PurePosixPath
from types import TracebackType
from typing import Any

import msgspec

from ..bundle.store import Bundle
from ..errors import UsageError
from ..media.draw import draw_caption, draw_detections
from ..media.frames import Source
from ..media.outputs import (
    CocoFile,
    OutputNames,
    check_apart,
    write_crops,
    write_picture,
    write_whole,
    yolo_text,
)
from ..media.video import VideoWriter
from ..tensors import Array
from .predict_inputs import Item

_CAPTION_LABELS = 5


class Wanted(msgspec.Struct, frozen=True):
    """The user's --save options."""

    save: Path | None = None
    txt: Path | None = None
    scores: bool = False
    coco: Path | None = None
    crops: Path | None = None
    timing: bool = False

    @property
    def anything(self) -> bool:
        """Whether something is to be kept."""
        return any((self.save, self.txt, self.coco, self.crops))


class Keeper:
    """Writes what is wanted of answered pictures; `picture` and `frame` may run in any threads.

    Use it in a `with` block: the COCO file is written at its end, also after an error or Ctrl-C.
    """

    def __init__(self, wanted: Wanted, bundle: Bundle) -> None:
        """Refuses what the bundle's answers cannot give.

        Raises:
            UsageError: boxes are wanted and the bundle gives none, or it does not take pictures.
        """
        manifest = bundle.manifest
        outputs = {spec.name for spec in manifest.outputs}
        if wanted.save is not None and wanted.save.is_file():
            raise UsageError(f"{wanted.save} is a file; --save needs a directory for pictures")
        if wanted.anything and manifest.decode.kind != "image":
            raise UsageError(f"{manifest.name} takes tensors: there is no picture to save")
        if (wanted.txt or wanted.coco or wanted.crops) and "boxes" not in outputs:
            raise UsageError(
                f"the answers of {manifest.name} ({manifest.task}) have no boxes to save",
                hint="--save DIR writes pictures with the labels on them",
            )
        if wanted.save and not outputs & {"boxes", "scores"}:
            raise UsageError(f"the answers of {manifest.name} are no labels or boxes that can be drawn")
        self.wanted = wanted
        self._names = OutputNames()
        self._coco = CocoFile(wanted.coco, bundle.labels()) if wanted.coco else None

    def __enter__(self) -> Keeper:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._coco is not None:
            self._coco.close()

    def reserve(self, item: Item) -> None:
        """Settle the names of an item's outputs; called in the order of the items, before the threads."""
        for suffix in (self.suffix(item), ".txt", ".crop"):
            self._names.of(item.name, item.relative, suffix)
        if self.wanted.save:
            check_apart(self.path(self.wanted.save, item), item.name)

    def suffix(self, item: Item) -> str:
        """The ending of the annotated file."""
        if item.moving:
            return ".mp4"
        own = PurePosixPath(item.relative).suffix.lower()
        return own if own in (".png", ".webp", ".jpeg") else ".jpg"

    def path(self, folder: Path, item: Item) -> Path:
        """Where the annotated file goes."""
        return folder / self._names.of(item.name, item.relative, self.suffix(item))

    def picture(self, item: Item, picture: Array, answer: Any, caption: str) -> None:
        """Keep one picture, uint8[H, W, 3], and its readable answer."""
        if self.wanted.save:
            write_picture(self.path(self.wanted.save, item), annotated(picture, answer, caption))
        self._beside(item, None, picture, answer)

    def frame(self, item: Item, index: int, picture: Array, answer: Any, caption: str) -> Array | None:
        """Keep what stands beside a frame; the annotated picture for the video, if one is wanted."""
        self._beside(item, index, picture, answer)
        return annotated(picture, answer, caption) if self.wanted.save else None

    def count(self, item: Item, index: int | None, size: tuple[int, int], answer: Any) -> None:
        """Add to the COCO file; called from one thread, in order. `size` is height and width."""
        if self._coco is not None:
            name = self._stem(item, index, self.suffix(item)) if index is not None else item.relative
            self._coco.add(str(name), size[1], size[0], answer)

    def video(self, item: Item, source: Source) -> VideoFile | None:
        """The annotated video of a source, if one is wanted."""
        return VideoFile(self.path(self.wanted.save, item), source.fps) if self.wanted.save else None

    def _beside(self, item: Item, index: int | None, picture: Array, answer: Any) -> None:
        height, width, _ = picture.shape
        if self.wanted.txt:
            text = yolo_text(answer, width, height, scores=self.wanted.scores)
            write_whole(self.wanted.txt / self._stem(item, index, ".txt"), text.encode())
        if self.wanted.crops:
            stem = self._stem(item, index, ".crop").with_suffix("")
            write_crops(self.wanted.crops, stem, picture, answer)

    def _stem(self, item: Item, index: int | None, suffix: str) -> PurePosixPath:
        """The item's name with this ending, of a frame with its number: `film_000012.txt`."""
        path = self._names.of(item.name, item.relative, suffix)
        return path if index is None else path.with_name(f"{path.stem}_{index:06d}{path.suffix}")


class VideoFile:
    """An annotated video, encoded in a thread of its own; opened when the first frame tells the size."""

    def __init__(self, path: Path, fps: float) -> None:
        self.path = path
        self._fps = fps
        self._writer: VideoWriter | None = None
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="encode")
        self._last: Future[None] | None = None

    def write(self, picture: Array, seconds: float) -> None:
        """Hand over a picture. Waits for the one before, whose error, if any, is raised here."""
        self._settle()
        self._last = self._pool.submit(self._write, picture, seconds)

    def close(self, *, keep: bool = True) -> None:
        """Finish the file, or with `keep=False` leave none."""
        try:
            if keep:
                self._settle()
        finally:
            self._pool.shutdown()
            if self._writer is not None:
                (self._writer.close if keep else self._writer.abandon)()

    def _write(self, picture: Array, seconds: float) -> None:
        if self._writer is None:
            height, width, _ = picture.shape
            self._writer = VideoWriter(self.path, self._fps, width, height)
        self._writer.write(picture, seconds)

    def _settle(self) -> None:
        last, self._last = self._last, None
        if last is not None:
            last.result()


def annotated(picture: Array, answer: Any, caption: str) -> Array:
    """The picture with boxes, or with the best labels of a classification in its corner."""
    if not isinstance(answer, list):
        return draw_caption(picture, caption)
    if any("box" in entry for entry in answer):
        return draw_detections(picture, answer, caption=caption)
    return draw_caption(picture, "\n".join([*_words(answer), caption]))


def _words(answer: Sequence[dict[str, Any]]) -> list[str]:
    return [
        f"{entry['label']} {entry['score']:.2f}" for entry in answer[:_CAPTION_LABELS] if "label" in entry
    ]
