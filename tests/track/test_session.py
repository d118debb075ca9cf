"""Identities by the real libraries, and the session around them."""

from __future__ import annotations

import importlib
import sys
from typing import Any

import msgspec
import numpy as np
import pytest

from modelport.errors import InputError, Unsupported, UsageError
from modelport.track.association import TRACKERS, Following, follow
from modelport.track.events import LineCrossed, TrackEnded, TrackStarted, ZoneEntered, ZoneLeft
from modelport.track.session import Session, Watching
from modelport.track.shapes import Line, Zone

SIZE = (640, 480)
OVERLAP = [name for name in TRACKERS if name != "deepsort"]


def car(x: float, y: float = 200.0, score: float = 0.9, label: str = "car") -> dict[str, Any]:
    return {"label": label, "class": 0, "score": score, "box": [x, y, x + 60, y + 40]}


def follow_all(session: Session, frames: list[list[dict[str, Any]]], fps: float = 30.0) -> list[Any]:
    return [session.step(found, number / fps, SIZE) for number, found in enumerate(frames)]


@pytest.mark.parametrize("tracker", OVERLAP)
def test_two_that_pass_each_other_keep_their_identities(tracker: str) -> None:
    session = Session(Following(tracker, min_frames=2))
    frames = [[car(10 + 6 * i, 100), car(600 - 6 * i, 300)] for i in range(80)]
    steps = follow_all(session, frames)
    for step in steps[5:]:
        assert [(each["track"], each["box"][1]) for each in step.tracks] == [(1, 100), (2, 300)] or [
            (each["track"], each["box"][1]) for each in step.tracks
        ] == [(1, 300), (2, 100)]
    assert session.summary().tracks == 2
    assert session.summary().labels == {"car": 2}


@pytest.mark.parametrize("tracker", OVERLAP)
def test_identities_are_those_of_the_library_itself(tracker: str) -> None:
    """Our session adds nothing to and takes nothing from what the library says of the same boxes."""
    import supervision
    import trackers

    random = np.random.default_rng(7)
    frames = []
    for i in range(90):
        lanes = [(20 + 5 * i, 60), (600 - 4 * i, 150), (100 + 3 * i, 260), (300, 20 + 4 * i)]
        frames.append(
            [
                car(x + random.normal(0, 2), y + random.normal(0, 2), float(random.uniform(0.2, 1)))
                for x, y in lanes
                if random.random() > 0.25
            ]
        )
    made = {"bytetrack": "ByteTrackTracker", "ocsort": "OCSORTTracker", "sort": "SORTTracker"}[tracker]
    alone = getattr(trackers, made)(frame_rate=25.0)
    session = Session(Following(tracker, fps=25.0))
    for number, found in enumerate(frames):
        boxes = np.array([each["box"] for each in found], np.float32).reshape(-1, 4)
        scores = np.array([each["score"] for each in found], np.float32)
        said = alone.update(supervision.Detections(xyxy=boxes, confidence=scores))
        wanted = {
            (int(identity) + 1, *map(float, box))
            for box, identity in zip(said.xyxy, said.tracker_id, strict=True)
            if identity >= 0
        }
        got = session.step(found, number / 25, SIZE).tracks
        assert {(each["track"], *map(float, np.float32(each["box"]))) for each in got} == wanted


def test_what_happens_is_told_once_and_in_order() -> None:
    watching = Watching(
        (Line((0.5, 0), (0.5, 1), "middle"),), (Zone(((0, 0), (0.25, 0), (0.25, 1), (0, 1)), "start"),)
    )
    session = Session(Following(fps=10, lost_seconds=1.0), watching)
    frames = [[car(20 + 12 * i)] for i in range(40)] + [[] for _ in range(15)]
    events = [event for step in follow_all(session, frames, 10) for event in step.events]
    kinds = [type(event) for event in events]
    assert kinds == [TrackStarted, ZoneEntered, ZoneLeft, LineCrossed, TrackEnded]
    started, entered, left, crossed, ended = events
    assert (started.frame, started.seconds, started.track) == (1, 0.1, 1)
    assert left.dwell_seconds == pytest.approx(left.seconds - entered.seconds)
    assert crossed.direction == "out" and crossed.point[0] > 320
    assert ended.last_seconds == pytest.approx(3.9) and ended.seen_seconds == pytest.approx(3.8)
    # It counts as lost one second after it was seen last, and not long after that.
    assert 4.9 <= ended.seconds <= 5.15
    assert session.end() == []
    for event in events:
        said = msgspec.json.decode(msgspec.json.encode(event))
        assert said["event"] in ("track_started", "track_ended", "line_crossed", "zone_entered", "zone_left")
        assert said["track"] == 1 and said["label"] == "car"


def test_the_end_of_the_video_ends_tracks_and_stays() -> None:
    zone = Zone(((0, 0), (1, 0), (1, 1), (0, 1)), "all")
    session = Session(Following(fps=10), Watching(zones=(zone,)))
    follow_all(session, [[car(100)]] * 11, 10)
    left, ended = session.end()
    assert isinstance(left, ZoneLeft) and left.ended and left.dwell_seconds == pytest.approx(0.9)
    assert isinstance(ended, TrackEnded)
    assert session.end() == []
    assert session.summary().zones["all"]["car"].inside == 0


def test_a_track_is_what_most_of_its_boxes_were_taken_for() -> None:
    session = Session(Following(min_frames=1))
    labels = ["car", "truck", "truck", "car", "truck", "truck"]
    follow_all(session, [[car(100, label=label)] for label in labels])
    assert session.summary().labels == {"truck": 1}


def test_dropped_frames_and_times_that_stand_still() -> None:
    """A live source: numbers with gaps, times with gaps, and once a clock that steps back."""
    session = Session(Following(fps=10))
    for number, seconds in ((0, 0.0), (1, 0.1), (5, 0.5), (6, 0.6), (7, 0.55), (8, 0.6), (9, 0.9)):
        step = session.step([car(100 + number)], seconds, SIZE, frame=number)
        assert step.frame == number
    assert [each["track"] for each in step.tracks] == [1]
    assert session.summary().tracks == 1 and session.summary().frames == 7
    with pytest.raises(InputError, match="seconds"):
        session.step([], float("nan"), SIZE)


def test_who_is_away_for_long_is_another_when_it_comes_back() -> None:
    for away, tracks in ((8, 1), (30, 2)):
        session = Session(Following(fps=10, lost_seconds=1.0))
        follow_all(session, [[car(100)]] * 10 + [[]] * away + [[car(100)]] * 10, 10)
        assert session.summary().tracks == tracks, away


def test_trails_reach_back_as_long_as_they_should() -> None:
    session = Session(Following(fps=10), Watching(trail_seconds=0.5))
    follow_all(session, [[car(10 * i)] for i in range(20)], 10)
    assert [x for x, _ in session.trails()[1]] == [10 * i + 30 for i in range(14, 20)]
    session.step([], 2.1, SIZE)
    assert session.trails() == {}


def test_deepsort_tells_apart_by_looks() -> None:
    """Two change places while nobody looks: boxes exchange them, looks do not."""
    red, blue = np.array([1, 0, 0, 0.1]), np.array([0, 0.1, 1, 0])

    def run(tracker: str) -> list[dict[str, Any]]:
        session = Session(Following(tracker, min_frames=2, fps=10, lost_seconds=3))
        step = None
        for number in range(30):
            if 15 <= number < 18:
                found, look = [], np.zeros((0, 4))
            else:
                places = (100, 112) if number < 15 else (112, 100)
                found = [car(places[0], label="red"), car(places[1], label="blue")]
                look = np.stack([red, blue])
            vectors = look if session.needs_vectors else None
            step = session.step(found, number / 10, SIZE, vectors=vectors)
            if number == 14:
                before = {each["track"]: each["label"] for each in step.tracks}
        assert step is not None
        return [{"before": before[each["track"]], "now": each["label"]} for each in step.tracks]

    assert all(each["before"] == each["now"] for each in run("deepsort"))
    assert any(each["before"] != each["now"] for each in run("bytetrack"))


def test_deepsort_gives_the_identities_of_its_library() -> None:
    from deep_sort_realtime.deepsort_tracker import DeepSort

    random = np.random.default_rng(11)
    alone = DeepSort(embedder=None, max_age=25, nn_budget=100)
    session = Session(Following("deepsort", fps=25.0))
    numbers: dict[str, int] = {}
    compared = 0
    for number in range(90):
        lanes = [
            (20 + 5 * number, 60),
            (600 - 4 * number, 64),
            (100 + 3 * number, 260),
            (300, 20 + 4 * number),
        ]
        here = [lane for lane in range(4) if random.random() > 0.25]
        found = [car(*(lanes[lane] + random.normal(0, 2, 2)), score=0.8) for lane in here]
        look = np.eye(4, 6)[here] + random.normal(0, 0.05, (len(here), 6))
        look = np.float32(look / np.linalg.norm(look, axis=1, keepdims=True))
        given = [([*each["box"][:2], 60.0, 40.0], 0.8, None) for each in found]
        said = set()
        for track in alone.update_tracks(given, embeds=list(look), others=list(range(len(found)))):
            if track.is_confirmed():
                identity = numbers.setdefault(track.track_id, len(numbers) + 1)
                if track.time_since_update == 0:
                    said.add((identity, track.get_det_supplementary()))
        boxes = [each["box"] for each in found]
        step = session.step(found, number / 25, SIZE, vectors=look)
        assert {(each["track"], boxes.index(each["box"])) for each in step.tracks} == said
        compared += len(said)
    assert compared > 150


def test_deepsort_wants_a_vector_for_each_box() -> None:
    association = follow(Following("deepsort"))
    assert association.needs_vectors
    with pytest.raises(InputError, match="one vector for each of 1"):
        association.update(np.zeros((1, 4)), np.ones(1), 0.0, None)
    flat = np.array([[5, 5, 5, 9], [0, 0, 10, 10]], np.float32)
    assert association.update(flat, np.ones(2), 0.0, np.ones((2, 3))) == [0, 0]


@pytest.mark.parametrize(
    ("following", "words"),
    [
        (Following("kalman"), "no tracker is called 'kalman'"),
        (Following(min_iou=1.5), "min_iou from 0 to 1"),
        (Following(lost_seconds=float("nan")), "lost_seconds"),
        (Following("sort", high_score=0.5), "sort has no high_score"),
        (Following(max_distance=0.2), "bytetrack has no max_distance"),
    ],
)
def test_impossible_settings(following: Following, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        follow(following)


def test_what_is_not_installed_says_how(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("trackers", "deep_sort_realtime.deepsort_tracker"):
        monkeypatch.setitem(sys.modules, module, None)
    for tracker in ("bytetrack", "deepsort"):
        with pytest.raises(Unsupported, match=r"pip install 'modelport\[track\]'"):
            follow(Following(tracker))


def test_a_library_of_the_system_that_is_missing_is_another_matter(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def missing(name: str) -> None:
        raise ImportError("libGL.so.1: cannot open shared object file")

    monkeypatch.setattr(importlib, "import_module", missing)
    with pytest.raises(Unsupported, match=r"libGL.*opencv-python-headless"):
        follow(Following())


def test_the_package_is_light_until_something_is_followed() -> None:
    import subprocess

    heavy = ("trackers", "cv2", "supervision", "websockets")
    code = "import sys, modelport.track.session, modelport.cli.track\n"
    code += f"print([name for name in {heavy} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
    assert importlib.util.find_spec("trackers") is not None
