"""`modelport track`: objects of a video or stream followed, counted at lines and in zones."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Any, TextIO

import click
import msgspec

from ..bundle.store import Bundle
from ..errors import Unavailable, UsageError
from ..track.association import TRACKERS, Following
from ..track.counting import Anchor
from ..track.events import written
from ..track.session import Session, Watching
from ..track.shapes import parse_line, parse_zone
from .bundle_options import conf_option, iou_option, options_of, pairs_of
from .predict_run import classes_of
from .render import json_option, progress, write_json
from .stopping import Stop
from .track_report import report

if TYPE_CHECKING:
    from ..media.frames import Source
    from ..track.run import Detect, Shown
    from ..track.scores import Scores

_NUMBER = click.FloatRange(0)


class Wish(msgspec.Struct, frozen=True):
    """What the command line asks for, beside the tracker's settings."""

    inputs: tuple[str, ...]
    option: tuple[str, ...]
    conf: float | None
    iou: float | None
    classes: str | None
    appearance: str | None
    detections: Path | None
    fps: float | None
    seconds: float | None
    frames: int | None
    reconnect: int
    threads: int | None
    save: Path | None
    save_mot: Path | None
    save_events: Path | None
    ground_truth: Path | None
    tracks: bool


def _following_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """The settings of trackers; what is not set is as the tracker's library has it."""
    texts = {
        "high_score": "Boxes at least this good are matched first.",
        "new_score": "Boxes at least this good may begin a track.",
        "min_iou": "Overlap that a box needs with where its object is expected.",
        "lost_seconds": "An object unseen for longer comes back as another.  [default: 1]",
        "max_distance": "DeepSORT: cosine distance beyond which two looks differ.",
    }
    for name, text in reversed(texts.items()):
        flag = "--" + name.replace("_", "-")
        function = click.option(flag, type=_NUMBER, help=text)(function)
    text = "Frames in a row before an object has an identity."
    return click.option("--min-frames", type=click.IntRange(1), help=text)(function)


@click.command()
@click.argument("inputs", nargs=-1, metavar="[BUNDLE] [VIDEO]")
@click.option("--line", multiple=True, metavar="X1,Y1,X2,Y2[,NAME]", help="Count who crosses it, in and out.")
@click.option(
    "--zone", multiple=True, metavar="'X,Y X,Y X,Y[,NAME]'", help="Count who is in it, and for how long."
)
@click.option(
    "--anchor",
    type=click.Choice(["bottom", "centre"]),
    default="bottom",
    show_default=True,
    help="The point of a box that crosses and enters.",
)
@click.option(
    "--margin",
    type=_NUMBER,
    default=2.0,
    show_default=True,
    help="Pixels past a line or border before it counts.",
)
@click.option(
    "--tracker", type=click.Choice(TRACKERS), help="[default: bytetrack; with --appearance deepsort]"
)
@click.option("--appearance", metavar="BUNDLE", help="What objects look like: a bundle that gives a vector.")
@_following_options
@click.option(
    "--option", multiple=True, metavar="NAME=VALUE", help="An option of BUNDLE, as score_threshold=0.2."
)
@conf_option
@iou_option
@click.option("--classes", metavar="NAME,…", help="Follow objects of these classes only, by name or number.")
@click.option(
    "--detections",
    type=click.Path(path_type=Path),
    metavar="DET.TXT",
    help="Objects found already, in MOTChallenge's format; no BUNDLE then.",
)
@click.option(
    "--fps",
    type=click.FloatRange(0, min_open=True),
    help="At most so many frames a second; for a directory of pictures: their rate, 25 unless said.",
)
@click.option("--seconds", type=_NUMBER, help="Stop after so much of the video or stream.")
@click.option("--frames", type=click.IntRange(1), help="Stop after so many frames that were looked at.")
@click.option(
    "--reconnect", type=click.IntRange(0), default=5, show_default=True, help="Tries for a cut stream."
)
@click.option("--threads", type=click.IntRange(1), help="[default: cores]")
@click.option(
    "--save",
    type=click.Path(path_type=Path),
    metavar="OUT.MP4",
    help="Write the annotated video; in a directory NAME.mp4.",
)
@click.option(
    "--save-mot",
    type=click.Path(path_type=Path),
    metavar="OUT.TXT",
    help="Write tracks in MOTChallenge's format.",
)
@click.option(
    "--save-events",
    type=click.Path(path_type=Path),
    metavar="OUT.JSONL",
    help="Write events, one JSON value a line.",
)
@click.option(
    "--ground-truth", type=click.Path(path_type=Path), metavar="GT.TXT", help="Print MOTA, IDF1 and HOTA."
)
@click.option("--tracks", is_flag=True, help="With --json: a line for each frame too.")
@json_option
def command(
    line: tuple[str, ...],
    zone: tuple[str, ...],
    anchor: Anchor,
    margin: float,
    tracker: str | None,
    high_score: float | None,
    new_score: float | None,
    min_iou: float | None,
    lost_seconds: float | None,
    max_distance: float | None,
    min_frames: int | None,
    as_json: bool,
    **wishes: Any,
) -> int:
    """Follow the objects that BUNDLE finds in VIDEO: a file, a directory or glob of pictures, a camera's
    number, or the address of a stream.

    Lines and zones are in pixels, or in shares of the picture where all numbers are from 0 to 1. `in` is from
    left to right for who walks along the line. With --json events are printed as they happen, and the
    summary as the last line.
    """
    wish = Wish(**wishes)
    _check_save(wish.save)
    tracker = tracker or ("deepsort" if wish.appearance else "bytetrack")
    if (tracker == "deepsort") != (wish.appearance is not None):
        raise UsageError("deepsort and --appearance BUNDLE need each other")
    watching = Watching(
        tuple(parse_line(text, number) for number, text in enumerate(line, 1)),
        tuple(parse_zone(text, number) for number, text in enumerate(zone, 1)),
        anchor,
        margin,
    ).checked()
    following = Following(
        tracker,
        high_score,
        new_score,
        min_frames,
        min_iou,
        max_distance,
        1.0 if lost_seconds is None else lost_seconds,
    )
    with contextlib.ExitStack() as opened:
        return _run(wish, following.checked(), watching, as_json, opened)


def _run(
    wish: Wish, following: Following, watching: Watching, as_json: bool, opened: contextlib.ExitStack
) -> int:
    from ..track.appearance import Appearance
    from ..track.run import Delay, follow_source

    source, detect = _opened(wish, following.tracker, opened)
    session = Session(msgspec.structs.replace(following, fps=source.fps), watching)
    appearance = None
    if wish.appearance is not None:
        appearance = Appearance(opened.enter_context(_pipeline(Bundle.open(wish.appearance), wish.threads)))
    keeping = opened.enter_context(_Keeping.open(wish, source, session, as_json))
    cut = False
    gone: Unavailable | None = None
    delay = Delay()
    stop = opened.enter_context(Stop().listening())
    with progress("track", source.total) as bar, stop.calling(source.stop):
        followed = follow_source(source, detect, session, appearance=appearance, delay=delay)
        try:
            for number, shown in enumerate(followed, 1):
                keeping.keep(shown)
                bar.advance(bar.task_ids[0])
                enough = wish.seconds is not None and shown.step.seconds >= wish.seconds
                if enough or number == wish.frames:
                    source.stop()
                    cut = True
                    break
        except Unavailable as problem:
            # A stream that is gone leaves what came before: the video, the events and the counts.
            gone = problem
    keeping.finish(session)
    scores = keeping.scores(wish.ground_truth) if wish.ground_truth is not None else None
    whole = not cut and not stop.wanted and gone is None
    report(session.summary(), source, delay, scores, as_json=as_json, whole=whole, video=keeping.video)
    if gone is not None:
        raise gone
    return 130 if stop.wanted else 0


def _opened(wish: Wish, tracker: str, opened: contextlib.ExitStack) -> tuple[Source, Detect]:
    """Where frames come from, and what finds objects in them."""
    from ..media.sources import open_source
    from ..track.mot import by_frame, read_rows
    from ..track.run import Given, detector

    if wish.detections is None:
        if len(wish.inputs) != 2:
            raise click.UsageError("expected BUNDLE and VIDEO, or --detections DET.TXT [VIDEO]")
        bundle = Bundle.open(wish.inputs[0])
        options = options_of(bundle, wish.option, conf=wish.conf, iou=wish.iou)
        only = classes_of(bundle, wish.classes) if wish.classes else frozenset()
        pipeline = opened.enter_context(_pipeline(bundle, wish.threads))
        detect = detector(pipeline, options, classes=only, tracker=tracker)
        decode = pipeline.bundle.manifest.decode
        source = open_source(wish.inputs[1], fps=wish.fps, reconnects=wish.reconnect, decode=decode)
        return opened.enter_context(source), detect
    if pairs_of(wish.option, conf=wish.conf, iou=wish.iou):
        raise click.UsageError("--option, --conf and --iou are a BUNDLE's; with --detections there is none")
    if len(wish.inputs) > 1:
        raise click.UsageError("with --detections there is no BUNDLE: at most VIDEO")
    found = by_frame(read_rows(wish.detections))
    if wish.inputs:
        source = open_source(wish.inputs[0], fps=wish.fps, reconnects=wish.reconnect)
        return opened.enter_context(source), lambda frame: found.get(frame.index, [])
    if wish.save is not None or wish.appearance is not None:
        raise click.UsageError("--save and --appearance look at pictures: give VIDEO too")
    given = Given(wish.detections.name, found, wish.fps or 25.0)
    return opened.enter_context(given), lambda frame: found.get(frame.index, [])


def _pipeline(bundle: Bundle, threads: int | None) -> Any:
    from ..engine.cores import usable_cores
    from ..runtimes.pipeline import Pipeline

    return Pipeline.open(bundle, threads=threads or usable_cores())


def _check_save(save: Path | None) -> None:
    """Refuse a video of another kind before anything is read."""
    if save is not None and not save.is_dir() and save.suffix.lower() != ".mp4":
        raise click.UsageError(f"--save {save}: must end in .mp4, or be a directory")


def _video_path(save: Path, source: Source) -> Path:
    """Where the annotated video goes: in a directory it has the source's name."""
    from ..media.outputs import check_apart

    if save.is_dir():
        name = re.sub(r"[^\w.-]+", "_", PurePath(source.name.rstrip("/")).stem)
        save = save / f"{name or 'tracked'}.mp4"
    check_apart(save, source.name)
    return save


class _Keeping:
    """What is written while the video goes by."""

    def __init__(self, session: Session, as_json: bool, tracks: bool) -> None:
        from ..track.run import Drawing

        self._drawing = Drawing(session)
        self._json = as_json
        self._tracks = tracks
        self._events: TextIO | None = None
        self._mot: TextIO | None = None
        self._mot_path: Path | None = None
        self._writer: Any = None
        self.video: Path | None = None
        """What was written, once there is a picture in it."""
        self._path: Path | None = None
        self._open_writer: Callable[[int, int], Any] | None = None

    @classmethod
    @contextlib.contextmanager
    def open(cls, wish: Wish, source: Source, session: Session, as_json: bool) -> Iterator[_Keeping]:
        """Open the files; a video is opened with the first picture, whose size it has."""
        import tempfile

        from ..media.video import VideoWriter

        keeping = cls(session, as_json, wish.tracks)
        with contextlib.ExitStack() as opened:
            if wish.save_events is not None:
                keeping._events = opened.enter_context(wish.save_events.open("w", encoding="utf-8"))
            if wish.save_mot is not None or wish.ground_truth is not None:
                folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
                keeping._mot_path = wish.save_mot or folder / "result.txt"
                keeping._mot = opened.enter_context(keeping._mot_path.open("w", encoding="utf-8"))
            if wish.save is not None:
                path = keeping._path = _video_path(wish.save, source)
                keeping._open_writer = lambda width, height: opened.enter_context(
                    VideoWriter(path, source.fps, width, height)
                )
            yield keeping

    def keep(self, shown: Shown) -> None:
        """Write what one picture brought."""
        from ..track.mot import write_rows

        step = shown.step
        for event in step.events:
            self._event(event)
        if self._json and self._tracks:
            line = {"event": "frame", "frame": step.frame, "seconds": step.seconds, "tracks": step.tracks}
            write_json(written(line), lines=True)
        if self._mot is not None:
            write_rows(self._mot, step.frame, step.tracks)
        if self._open_writer is not None:
            picture = shown.frame.picture
            if self._writer is None:
                self._writer = self._open_writer(picture.shape[1], picture.shape[0])
                self.video = self._path
            self._writer.write(self._drawing.draw(picture, step), step.seconds)

    def finish(self, session: Session) -> None:
        """The video is over: every track ends."""
        for event in session.end():
            self._event(event)
        if self._mot is not None:
            self._mot.close()
        if self._writer is not None:
            self._writer.close()

    def scores(self, truth: Path) -> Scores:
        """How well what was written agrees with the ground truth."""
        from ..track.scores import score

        assert self._mot_path is not None
        return score(truth, self._mot_path)

    def _event(self, event: Any) -> None:
        event = written(event)
        if self._json:
            write_json(event, lines=True)
        if self._events is not None:
            self._events.write(msgspec.json.encode(event).decode() + "\n")
            self._events.flush()
