"""One caller's tracking session: pictures in, tracks and events out, through whatever model is live by then.

Knows nothing of HTTP or WebSockets; its time comes with the pictures.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable
from typing import Any, Literal

import msgspec
import numpy as np

from ..bundle.manifest import Decode
from ..engine.caller import Asking, caller
from ..engine.model import LiveModel
from ..engine.repository import Repository
from ..engine.told import Told
from ..engine.wire import Options
from ..errors import Forbidden, InputError, UsageError, did_you_mean
from ..tensors import Array
from ..track.appearance import cut_out, unit, vector_output
from ..track.association import Following
from ..track.counting import Anchor
from ..track.events import written
from ..track.session import Found, Session, Watching, detector_options
from ..track.shapes import parse_line, parse_zone

Order = Literal["newest", "all"]


class Wishes(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """What a caller may say of its session. All but `options` and `order` comes before the first picture."""

    options: dict[str, float | int | bool | str] | None = None
    """Of the bundle, as `score_threshold`; for the pictures that follow."""
    order: Order | None = None
    """`newest`: a picture that waits is dropped for a newer one. `all`: every picture is answered."""
    tracker: Following | None = None
    appearance: str | None = None
    """The model that says what objects look like, for deepsort: one that gives a vector for a picture."""
    lines: list[str] | None = None
    """Each `x1,y1,x2,y2[,name]`."""
    zones: list[str] | None = None
    """Each `x,y x,y x,y[,name]`."""
    anchor: Anchor | None = None
    margin: float | None = None
    fps: float | None = None
    """Pictures come at this rate: a picture's time is its number by it. By default it is when it comes."""
    only: list[str] | None = None
    """Labels that are followed."""
    trails: bool | None = None
    """Whether answers hold the points where each object was."""

    def early(self) -> bool:
        """Whether something in it must come before the first picture."""
        later = ("options", "order")
        return any(getattr(self, each) is not None for each in self.__struct_fields__ if each not in later)

    def over(self, other: Wishes) -> Wishes:
        """These, and where they are silent those of `other`."""
        given = {each: getattr(self, each) for each in self.__struct_fields__}
        return msgspec.structs.replace(other, **{name: v for name, v in given.items() if v is not None})


class TrackSession:
    """Follows the objects in the pictures of one caller.

    Raises:
        NotFound, Unavailable: no such model. InputError: it is no detector, or wishes that are none.
        Unsupported: the tracker is not installed.
    """

    def __init__(
        self,
        repository: Repository,
        name: str,
        version: str | None,
        *,
        asking: Asking | None,
        clock: Callable[[], float],
        may_ask: Callable[[str], bool] = lambda name: True,
    ) -> None:
        self.name = name
        self.frames = 0
        """Pictures that came, those that were dropped too."""
        self.dropped = 0
        self.model_version = ""
        self._repository = repository
        self._version = version
        self._asking = asking
        self._clock = clock
        self._may_ask = may_ask
        self._began = clock()
        self._wishes = Wishes()
        self._session: Session | None = None
        self._options: Options | None = None
        self.model()
        # What cannot be followed is said now, and not with the first picture.
        self._make()

    def wish(self, wishes: Wishes) -> None:
        """Take what the caller says of its session.

        Raises:
            InputError, UsageError: it cannot be, or comes too late.
        """
        if self._session is not None and wishes.early():
            raise InputError("lines, zones and the tracker are set before the first picture")
        before, self._wishes = self._wishes, wishes.over(self._wishes)
        try:
            model = self.model()
            self._options = self._chosen(model)
            self._check_only(model)
            if self._session is None:
                self._make()
        except Exception:
            self._wishes = before
            raise

    @property
    def order(self) -> Order:
        """What is done with pictures that come faster than they are answered."""
        return self._wishes.order or "newest"

    def model(self) -> LiveModel:
        """The model that answers now: a version that was swapped in takes over with the next picture, and so
        does the one that a rollout means by then.

        Raises:
            NotFound, Unavailable: there is none. InputError: it finds no objects.
        """
        if self._asking is not None:
            self._asking.chosen = None
        found = self._live(self.name, self._version)
        if found.bundle.manifest.task != "object-detection":
            raise InputError(f"{self.name} finds no objects; only object detectors are tracked")
        self.model_version = found.version
        return found

    def _live(self, name: str, version: str | None) -> LiveModel:
        if self._asking is not None:
            caller.set(self._asking)
        return self._repository.model(name, version)

    @property
    def told(self) -> Told | None:
        """How the last picture was answered."""
        return self._asking.told if self._asking is not None else None

    @property
    def counted(self) -> bool:
        """Whether the last picture is among what its model refused or failed at."""
        return self._asking is not None and self._asking.counted

    def arrived(self) -> tuple[int, float]:
        """A picture came: its number, and its time unless the caller gave it one."""
        number = self.frames
        self.frames += 1
        fps = self._wishes.fps
        return number, number / fps if fps else self._clock() - self._began

    async def answer(
        self, picture: bytes, number: int, seconds: float, *, deadline: float = math.inf
    ) -> dict[str, Any]:
        """The tracks of an encoded picture, and what happened.

        Raises:
            InputError, TooLarge, UnsupportedMedia: it is no picture. Unavailable: not in time.
        """
        if self._asking is not None:
            self._asking.told, self._asking.counted = None, False
        model = self.model()
        answered = await model.answer(picture, deadline=deadline, options=self._chosen(model))
        found = model.readable(answered.tensors)
        if not isinstance(found, list):
            raise InputError(f"{self.name} finds no objects")
        if self._wishes.only:
            found = [each for each in found if each["label"] in self._wishes.only]
        session = self._session = self._session or self._make()
        # A server that nobody lets follow anything does without Pillow.
        from ..steps.decode import picture_size

        size = picture_size(picture, model.bundle.manifest.decode)
        vectors = None
        if session.needs_vectors:
            vectors = await self._vectors(picture, model.bundle.manifest.decode, found, deadline)
        step = await asyncio.to_thread(session.step, found, seconds, size, vectors=vectors, frame=number)
        said: dict[str, Any] = {
            "type": "tracks",
            "frame": number,
            "seconds": round(step.seconds, 3),
            "model": model.name,
            "version": model.version,
            "tracks": step.tracks,
            "events": written(step.events),
            "dropped": self.dropped,
            "timing_ms": answered.timing,
        }
        if self._wishes.trails:
            said["trails"] = session.trails()
        return said

    def summary(self) -> dict[str, Any]:
        """What was seen so far."""
        seen = self._session.summary() if self._session is not None else None
        counted = written(seen) if seen is not None else {}
        return {
            "type": "summary",
            "model": self.name,
            "received": self.frames,
            "dropped": self.dropped,
            **counted,
        }

    def end(self) -> dict[str, Any]:
        """The session is over: every track ends."""
        events = self._session.end() if self._session is not None else []
        return {**self.summary(), "events": written(events)}

    async def _vectors(self, picture: bytes, decode: Decode, found: Found, deadline: float) -> Array:
        """What the objects look like: each is cut out and answered by the other model, all side by side."""
        if not found:
            return np.zeros((0, 1), np.float32)
        model = self._looks()
        output = vector_output(model.bundle.manifest)
        from ..steps.decode import decode_image

        pixels = await asyncio.to_thread(decode_image, picture, decode)
        cuts = [{"image": cut_out(pixels, each["box"])} for each in found]
        done = await asyncio.gather(*(model.answer_decoded(cut, deadline=deadline) for cut in cuts))
        return unit(np.stack([answered.tensors[output] for answered in done]))

    def _looks(self) -> LiveModel:
        """The model that says what objects look like.

        Raises:
            Forbidden: the caller's key is not for it. NotFound, Unavailable, UsageError: it cannot be asked.
        """
        name = self._wishes.appearance or ""
        if not self._may_ask(name):
            raise Forbidden(f"this key is not for the model {name[:80]!r}")
        model = self._live(name, None)
        vector_output(model.bundle.manifest)
        return model

    def _check_only(self, model: LiveModel) -> None:
        """Refuse labels that the model never gives: nothing would be followed, and nobody told why."""
        labels = model.bundle.labels()
        for name in self._wishes.only or ():
            if labels and name not in labels:
                raise InputError(
                    f"{self.name} has no label {name[:80]!r}", at="$.only", hint=did_you_mean(name, labels)
                )

    def _make(self) -> Session:
        wishes = self._wishes
        following = wishes.tracker or Following()
        if (following.tracker == "deepsort") != (wishes.appearance is not None):
            raise UsageError("the tracker deepsort and `appearance`, a model, need each other")
        if wishes.appearance is not None:
            self._looks()
        if wishes.fps is not None:
            following = msgspec.structs.replace(following, fps=wishes.fps)
        watching = Watching(
            tuple(parse_line(text, number) for number, text in enumerate(wishes.lines or (), 1)),
            tuple(parse_zone(text, number) for number, text in enumerate(wishes.zones or (), 1)),
            wishes.anchor or "bottom",
            2.0 if wishes.margin is None else wishes.margin,
        )
        return Session(following, watching)

    def _chosen(self, model: LiveModel) -> Options | None:
        """The options for a picture: the caller's, and what its tracker wants where it sets none."""
        tracker = (self._wishes.tracker or Following()).tracker
        given = detector_options(self._wishes.options or {}, model.bundle.manifest, tracker)
        return model.check_options(given) if given else None
