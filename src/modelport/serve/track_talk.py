"""The messages of a tracking session's WebSocket: pictures and wishes in, tracks and events out."""

from __future__ import annotations

import asyncio
import logging
import re
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

import msgspec

from ..errors import Forbidden, InputError, ModelportError, QueueFull, Unauthorized, did_you_mean
from ..track.association import Following
from .refusal import reason_of, refusal
from .track_session import TrackSession, Wishes
from .websocket import POLICY, TRY_LATER, WebSocket

log = logging.getLogger("modelport.serve")

T = TypeVar("T")

WAITING = 4
"""Pictures of one session that wait for their turn, where all are answered; then no more are read."""
MAX_WAITING = 1024
"""Pictures that one read of the connection may bring at once."""


_OPTIONS = {
    "conf": "score_threshold",
    "iou": "iou_threshold",
    "score_threshold": "score_threshold",
    "iou_threshold": "iou_threshold",
}
"""Names that callers give the thresholds, and the bundle's."""


class Said(Wishes, frozen=True, forbid_unknown_fields=True):
    """A text message: wishes, the time of the next picture, or the end."""

    seconds: float | None = None
    end: bool = False


class Talk:
    """One WebSocket's messages and their answers.

    Args:
        authorize: asks again, for each picture, whether this caller may: keys are taken back, and a rate
            is a rate of pictures.
    """

    def __init__(
        self, opened: WebSocket, session: TrackSession, authorize: Callable[[], object] | None = None
    ) -> None:
        self._socket = opened
        self._session = session
        self._authorize = authorize
        self._waiting: deque[tuple[bytes, int, float]] = deque()
        self._woken = asyncio.Event()
        self._next_seconds: float | None = None
        self._ending = False
        self._working = False
        opened.on_message = self._came
        opened.on_gone = self._woken.set
        opened.busy = lambda: self._working or bool(self._waiting)

    async def run(self) -> None:
        """Answer until one side ends it."""
        try:
            self._say(self._ready())
            while self._socket.open:
                await self._woken.wait()
                self._woken.clear()
                while self._waiting and self._socket.open:
                    # An answer that cannot be sent yet: until it can, newer pictures take this one's place.
                    await self._socket.room()
                    await self._next()
                if self._ending and self._socket.open:
                    self._say(self._session.end())
                    self._socket.close(1000)
        except Exception:
            log.exception("a tracking session failed")
            self._socket.close(1011, "internal error; the server's log says more")
            raise
        finally:
            self._drop_all()

    async def _next(self) -> None:
        picture, number, seconds = self._waiting.popleft()
        self._working = True
        self._hold()
        try:
            if self._authorize is not None:
                self._authorize()
            answer = await self._session.answer(picture, number, seconds)
        except ModelportError as problem:
            answer = _refused(problem, number)
            reason = reason_of(answer["status"])
            if reason is not None and not self._session.counted:
                self._socket.server.refused(reason)
            if isinstance(problem, Unauthorized | Forbidden):
                self._say(answer)
                self._socket.close(POLICY, "the key is not valid any more")
        finally:
            self._working = False
            self._socket.server.memory.held -= len(picture)
        self._say(answer)

    def _came(self, message: bytes | str) -> None:
        """A message came; called by the event loop, and quick."""
        if isinstance(message, bytes):
            self._take(message)
            return
        try:
            said = decoded(message.encode(), Said)
            if said.seconds is not None:
                self._next_seconds = time_of(said.seconds)
            wishes = Wishes(**{name: getattr(said, name) for name in Wishes.__struct_fields__})
            if wishes != Wishes():
                self._session.wish(wishes)
                self._say(self._ready())
        except ModelportError as problem:
            self._say(_refused(problem, None))
            return
        if said.end:
            self._ending = True
            self._woken.set()

    def _take(self, picture: bytes) -> None:
        server = self._socket.server
        if server.stopping:
            return
        number, seconds = self._session.arrived()
        if self._next_seconds is not None:
            seconds, self._next_seconds = self._next_seconds, None
        try:
            if len(self._waiting) >= MAX_WAITING:
                server.refused("queue_full")
                raise QueueFull("too many pictures at once")
            server.memory.take(len(picture))
        except QueueFull as problem:
            self._socket.close(TRY_LATER, problem.message)
            return
        if self._session.order == "newest":
            self._session.dropped += len(self._waiting)
            self._drop_all()
        self._waiting.append((picture, number, seconds))
        self._hold()
        self._woken.set()

    def _hold(self) -> None:
        """Read no more while as many pictures wait as may."""
        self._socket.hold(len(self._waiting) >= WAITING)

    def _drop_all(self) -> None:
        for picture, _, _ in self._waiting:
            self._socket.server.memory.held -= len(picture)
        self._waiting.clear()

    def _ready(self) -> dict[str, Any]:
        session = self._session
        return {
            "type": "ready",
            "model": session.name,
            "version": session.model_version,
            "order": session.order,
        }

    def _say(self, value: Any) -> None:
        self._socket.send(msgspec.json.encode(value))


def _refused(problem: ModelportError, number: int | None) -> dict[str, Any]:
    """An error as a message: the session goes on."""
    status, words, _ = refusal(problem, "WebSocket /track")
    said: dict[str, Any] = {"type": "error", "status": status, "error": words}
    return said if number is None else {**said, "frame": number}


def decoded(body: bytes, kind: type[T]) -> T:
    """JSON as `kind`.

    Raises:
        InputError: it is none.
    """
    try:
        return msgspec.json.decode(body, type=kind)
    except msgspec.ValidationError as problem:
        raise _not_such(str(problem), kind) from problem
    except (msgspec.DecodeError, RecursionError) as problem:
        raise InputError(f"not JSON: {problem}") from problem


def _not_such(words: str, kind: type) -> InputError:
    """What msgspec says of JSON that is not as `kind`, with the settings that there are."""
    words, _, place = words.partition(" - at ")
    unknown = re.match(r"Object contains unknown field `(.*)`", words)
    at = place.strip("`") or None
    if unknown is None:
        return InputError(f"this is no setting of a session: {words}", at=at)
    owner: Any = Following if at == "$.tracker" else kind
    known = owner.__struct_fields__
    name = unknown[1][:64]
    hint = did_you_mean(name, known, otherwise="")
    if name in _OPTIONS:
        hint = f'a threshold stands in options: {{"options": {{"{_OPTIONS[name]}": 0.5}}}}'
    return InputError(f"unknown setting {name!r}; there are {', '.join(known)}", at=at, hint=hint or None)


def time_of(value: float | str) -> float:
    """A picture's time in seconds, as its caller says it.

    Raises:
        InputError: it is none.
    """
    try:
        seconds = float(value)
    except ValueError:
        seconds = float("nan")
    if not 0 <= seconds < 1e12:
        raise InputError(f"expected the picture's time in seconds, got {str(value)[:40]!r}")
    return seconds
