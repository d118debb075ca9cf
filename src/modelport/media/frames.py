"""A frame, and a source of frames that is read ahead by a thread of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from types import TracebackType

import msgspec

from ..tensors import Array
from .buffer import Buffer

_AHEAD = 4


class Frame(msgspec.Struct, frozen=True):
    """One picture of a source."""

    index: int
    """Its number in the source, from 0; those that were skipped count too."""
    seconds: float
    """When it is shown, from the source's start; of a live source: when it came."""
    picture: Array
    """uint8[H, W, 3], RGB, upright."""
    name: str
    """The file's name or the source's address, without user name and password."""


class Source:
    """An iterator of frames, decoded ahead in a thread of its own. Use it in a `with` block, or close it."""

    live = False
    """Whether frames come when they come, and are lost when nobody takes them."""

    def __init__(self, name: str, *, ahead: int = _AHEAD) -> None:
        self.name = name
        self.fps = 25.0
        """Frames a second that the source gives, on the average."""
        self.total: int | None = None
        """How many frames it says that it gives; None: not known."""
        self.reconnects = 0
        """How often the connection was made anew."""
        self._buffer: Buffer[Frame] = Buffer(ahead, newest=self.live)
        self._thread: threading.Thread | None = None

    @property
    def dropped(self) -> int:
        """Frames of a live source that were replaced by newer ones before anybody took them."""
        return self._buffer.dropped

    @property
    def corrupt(self) -> int:
        """Frames that were damaged and skipped."""
        return 0

    @property
    def missing(self) -> int:
        """Frames that a file announces and that did not come; meant once it was read to its end."""
        return 0

    def notes(self, *, whole: bool) -> list[str]:
        """What a user should know of it once it was read: frames that were damaged, dropped or missing.

        Args:
            whole: it was read to its end, not stopped before.
        """
        counts = {
            "damaged and skipped": self.corrupt,
            "not taken in time": self.dropped,
            "connected anew": self.reconnects,
        }
        words = [f"{count} {what}" for what, count in counts.items() if count]
        if self.missing and whole:
            words.append(f"it ends {self.missing} frames before the end that it announces")
        return words

    def __iter__(self) -> Iterator[Frame]:
        return self

    def __next__(self) -> Frame:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=f"decode {self.name}", daemon=True)
            self._thread.start()
        return self._buffer.take()

    def stop(self) -> None:
        """End the iteration soon, from any thread or a signal handler; what was decoded is left out."""
        self._buffer.stop()

    def close(self) -> None:
        """Stop and free everything. Waits no longer than a read may take."""
        self.stop()
        if self._thread is not None:
            self._thread.join(timeout=2.0)

    def __enter__(self) -> Source:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _run(self) -> None:
        try:
            for frame in self._frames():
                if not self._buffer.put(frame):
                    break
        except BaseException as problem:  # noqa: BLE001 - raised again where the frames are taken
            self._buffer.finish(problem)
        else:
            self._buffer.finish()

    def _frames(self) -> Iterator[Frame]:
        raise NotImplementedError


class Sampling:
    """Picks frames so that at most `fps` a second remain; each is the first in its slot of time."""

    def __init__(self, fps: float | None) -> None:
        self._fps = fps
        self._slot = -1

    def wants(self, seconds: float) -> bool:
        """Whether the frame at this time is kept; asked once for each frame, in order."""
        if self._fps is None:
            return True
        # The margin keeps frames whose times were rounded to just before their slot.
        slot = int(seconds * self._fps + 1e-3)
        if slot <= self._slot:
            return False
        self._slot = slot
        return True
