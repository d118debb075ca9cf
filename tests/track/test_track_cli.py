"""`modelport track` on videos whose right tracks are known, and live sources that are faster than we are."""

from __future__ import annotations

import json
import re
import signal
import threading
from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from click.testing import CliRunner, Result

from modelport.bundle.store import Bundle
from modelport.cli import track as track_verb
from modelport.cli.main import root
from modelport.cli.track import command
from modelport.errors import ModelportError, Unavailable
from modelport.media import live
from modelport.media.draw import Canvas
from modelport.media.frames import Frame, Source
from modelport.media.video import VideoWriter
from modelport.track.association import Following
from modelport.track.run import Delay, Drawing, Given, follow_source
from modelport.track.session import Session, Watching, detector_options
from modelport.track.shapes import Zone

from ..boxes import pack_boxes, pixels_with
from ..media.films import MotionJpeg
from .test_files import pack_looks

FRAMES = 40


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`repo/boxes`, film.mp4 with a red rectangle going right and a blue one going left, and gt.txt."""
    folder = tmp_path_factory.mktemp("film")
    pack_boxes(folder)
    pack_looks(folder)
    with VideoWriter(folder / "film.mp4", 10, 320, 240) as film, (folder / "gt.txt").open("w") as truth:
        for i in range(FRAMES):
            red, blue = (5 + 6 * i, 30), (260 - 6 * i, 150)
            boxes = [("red", *red, red[0] + 50, 90), ("blue", *blue, blue[0] + 50, 220)]
            film.write(pixels_with(boxes))
            truth.write(f"{i + 1},1,{red[0] + 1},{red[1] + 1},50,60,1\n")
            truth.write(f"{i + 1},2,{blue[0] + 1},{blue[1] + 1},50,70,1\n")
    return folder


def track(folder: Path, *arguments: str | Path, bundle: bool = True) -> Result:
    first = [str(folder / "repo" / "boxes" / "1"), str(folder / "film.mp4")] if bundle else []
    return CliRunner().invoke(command, [*first, *map(str, arguments)])


def lines_of(done: Result) -> list[dict[str, Any]]:
    assert done.exit_code == 0, (done.output, done.exception)
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_events_and_the_summary_are_lines_of_json(folder: Path, tmp_path: Path) -> None:
    *events, summary = lines_of(
        track(
            folder,
            *("--line", "0.5,0,0.5,1,middle", "--zone", "0,0 0.4,0 0.4,1 0,1,left side", "--json"),
            *("--save-events", tmp_path / "events.jsonl"),
        )
    )
    crossed = [(each["label"], each["direction"]) for each in events if each["event"] == "line_crossed"]
    assert sorted(crossed) == [("blue", "in"), ("red", "out")]
    assert [each["event"] for each in events].count("track_started") == 2
    assert [each["event"] for each in events].count("track_ended") == 2
    assert summary["event"] == "summary" and summary["frames"] == FRAMES
    assert summary["labels"] == {"blue": 1, "red": 1}
    assert summary["lines"] == {"middle": {"blue": {"in": 1, "out": 0}, "red": {"in": 0, "out": 1}}}
    stays = summary["zones"]["left side"]
    assert stays["red"]["entered"] == stays["blue"]["entered"] == 1
    kept = (tmp_path / "events.jsonl").read_text().splitlines()
    assert [json.loads(line) for line in kept] == events


def test_tables_say_the_same(folder: Path) -> None:
    done = track(
        folder, "--line", "0.5,0,0.5,1,middle", "--classes", "red", "--ground-truth", folder / "gt.txt"
    )
    assert done.exit_code == 0, done.output
    for words in ("1 (1 red)", "middle", "MOTA", "IDF1", "HOTA"):
        assert words in done.output, words
    assert track(folder, "--classes", "red", "--seconds", "1", "--json").exit_code == 0


def test_scores_against_the_truth(folder: Path, tmp_path: Path) -> None:
    result = tmp_path / "result.txt"
    done = track(
        folder, "--ground-truth", folder / "gt.txt", "--save-mot", result, "--min-frames", "1", "--json"
    )
    scores = lines_of(done)[-1]["scores"]
    # An identity begins with the second picture at the earliest: the library says so.
    assert scores["mota"] > 0.94 and scores["idf1"] > 0.94 and scores["id_switches"] == 0
    assert len(result.read_text().splitlines()) >= 2 * (FRAMES - 1)
    again = track(folder, "--detections", result, "--ground-truth", folder / "gt.txt", "--json", bundle=False)
    assert lines_of(again)[-1]["scores"]["id_switches"] == 0


def test_the_annotated_video(folder: Path, tmp_path: Path) -> None:
    shapes = ("--line", "160,0,160,240,middle", "--zone", "0,0 100,0 100,240 0,240,left")
    done = track(folder, *shapes, "--save", tmp_path / "out.mp4")
    assert done.exit_code == 0, (done.output, done.exception)
    with av.open(str(tmp_path / "out.mp4")) as made:
        stream = made.streams.video[0]
        assert (stream.width, stream.height, stream.codec_context.name) == (320, 240, "h264")
        pictures = [frame.to_ndarray(format="rgb24") for frame in made.decode(video=0)]
    assert len(pictures) == FRAMES
    with av.open(str(folder / "film.mp4")) as plain:
        before = [frame.to_ndarray(format="rgb24") for frame in plain.decode(video=0)]
    assert all(np.abs(a.astype(int) - b).mean() > 3 for a, b in zip(pictures, before, strict=True))


def test_a_film_that_is_cut_short_is_told(folder: Path, tmp_path: Path) -> None:
    # Its index stands in front, so all that was written before the cut is read.
    data = (folder / "film.mp4").read_bytes()
    cut = tmp_path / "cut.mp4"
    cut.write_bytes(data[: int(len(data) * 0.7)])
    asked = [str(folder / "repo" / "boxes" / "1"), str(cut)]
    done = CliRunner().invoke(command, [*asked, "--json"])
    summary = lines_of(done)[-1]
    assert 0 < summary["frames"] < FRAMES
    assert summary["missing"] + summary["corrupt"] >= FRAMES - summary["frames"]
    said = f"it ends {summary['missing']} frames before the end that it announces"
    assert summary["missing"] and said in done.stderr
    table = CliRunner().invoke(command, asked)
    assert said in table.stderr
    assert ["missing", str(summary["missing"])] in [row.split() for row in table.stdout.splitlines()]
    early = CliRunner().invoke(command, [*asked, "--frames", "3", "--json"])
    assert lines_of(early)[-1]["frames"] == 3 and "announces" not in early.stderr


def test_a_threshold_is_kept_to_and_times_are_in_milliseconds(folder: Path) -> None:
    *events, summary = lines_of(track(folder, "--conf", "1", "--json"))
    assert summary["tracks"] == 0 and not events
    lines = lines_of(track(folder, "--iou", "0.5", "--zone", "0,0 1,0 1,1 0,1,all", "--json", "--tracks"))
    times = [value for line in lines for name, value in line.items() if name.endswith("seconds")]
    times += [stay["dwell_seconds"] for stay in lines[-1]["zones"]["all"].values()]
    assert times and all(round(each, 3) == each for each in times)


def test_in_a_directory_the_video_has_the_name_of_its_source(folder: Path, tmp_path: Path) -> None:
    saved = track(folder, "--save", tmp_path, "--frames", "3")
    assert saved.exit_code == 0 and re.search(r"^saved +\S", saved.output, re.MULTILINE)
    assert [path.name for path in tmp_path.iterdir()] == ["film.mp4"]
    refused = track(folder, "--save", folder, "--frames", "3")
    assert refused.exit_code != 0 and "written over" in str(refused.exception)


def test_the_status_and_a_zone_in_its_corner_are_both_legible() -> None:
    zone = Zone(((0, 0), (300, 0), (300, 200), (0, 200)), "corner")
    session = Session(Following(), Watching(zones=(zone,)))
    picture = np.full((240, 640, 3), 128, np.uint8)
    step = session.step([], 0.0, (640, 240))
    plain = Drawing(session, caption=False).draw(picture, step)
    both = Drawing(session).draw(picture, step)
    status = Canvas(picture)
    status.leave_room("0.00 s, 0 now, 0 in all")
    (place,) = status._taken
    bottom = int(place[3])
    # The zone's label is as it is without a status, and stands right below it.
    label = plain[2:bottom, 4:120].astype(int)
    moved = both[bottom + 2 : 2 * bottom, 4:120].astype(int)
    assert np.abs(label[: len(moved)] - moved).mean() < 20
    assert np.abs(plain[bottom + 2 : 2 * bottom, 4:120].astype(int) - moved).mean() > 20


def test_deepsort_with_an_embedding_bundle(folder: Path) -> None:
    looks = folder / "looks" / "looks" / "1"
    *_, summary = lines_of(track(folder, "--appearance", looks, "--json"))
    assert summary["labels"] == {"blue": 1, "red": 1}


def test_only_trackers_that_want_weak_boxes_get_them(folder: Path) -> None:
    manifest = Bundle.open(folder / "repo" / "boxes" / "1").manifest
    for tracker, threshold in (("bytetrack", 0.1), ("ocsort", 0.1), ("sort", None), ("deepsort", None)):
        assert detector_options({}, manifest, tracker).get("score_threshold") == threshold
        assert detector_options({"score_threshold": 0.4}, manifest, tracker) == {"score_threshold": 0.4}


def test_a_stream_that_is_gone_leaves_what_came_before(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.02)
    kept = tmp_path / "kept.mp4"
    with MotionJpeg([8, 0], pause=0.05) as server:
        asked = [str(folder / "repo" / "boxes" / "1"), server.url, "--reconnect", "1", "--json"]
        done = CliRunner().invoke(command, [*asked, "--save", str(kept)])
    assert isinstance(done.exception, Unavailable) and "gone after 1 attempts" in str(done.exception)
    summary = json.loads(done.stdout.splitlines()[-1])
    assert summary["event"] == "summary" and summary["frames"] > 0
    with av.open(str(kept)) as made:
        assert sum(1 for _ in made.decode(video=0)) == summary["frames"]


def test_an_interrupted_film_is_kept_up_to_there(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keep = track_verb._Keeping.keep

    def interrupted(keeping: Any, shown: Any) -> None:
        keep(keeping, shown)
        if shown.step.frame == 3:
            signal.raise_signal(signal.SIGTERM)

    monkeypatch.setattr(track_verb._Keeping, "keep", interrupted)
    done = CliRunner().invoke(
        command,
        [
            str(folder / "repo" / "boxes" / "1"),
            str(folder / "film.mp4"),
            "--save",
            str(tmp_path / "x.mp4"),
            "--json",
        ],
        standalone_mode=False,
    )
    assert done.return_value == 130
    summary = json.loads(done.stdout.splitlines()[-1])
    assert 4 <= summary["frames"] < FRAMES
    with av.open(str(tmp_path / "x.mp4")) as made:
        assert sum(1 for _ in made.decode(video=0)) == summary["frames"]


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--tracker", "deepsort"], "need each other"),
        (["--line", "1,2,3"], "x1,y1,x2,y2"),
        (["--line", "0,0,1,1,a", "--line", "0,1,1,0,a"], "same name"),
        (["--option", "score"], "NAME=VALUE"),
        (["--option", "magic=1"], "no option 'magic'"),
        (["--classes", "person"], "no class 'person'"),
        (["--classes", "99"], "no class 99; its classes are 0 to 2"),
        (["--conf", "0.5", "--option", "score_threshold=0.4"], "say the same"),
        (["--save", "out.avi"], "must end in .mp4"),
        (["--min-iou", "2"], "min_iou from 0 to 1"),
        (["--tracker", "sort", "--high-score", ".5"], "sort has no high_score"),
    ],
)
def test_wishes_that_cannot_be(folder: Path, arguments: list[str], words: str) -> None:
    done = track(folder, *arguments)
    assert done.exit_code != 0
    assert isinstance(done.exception, ModelportError | SystemExit)
    assert words in f"{done.output} {done.exception}"


def test_usage(folder: Path) -> None:
    assert CliRunner().invoke(root, ["track", "only-one"]).exit_code == 2
    det = folder / "gt.txt"
    for wrong in (["a", "b"], ["--save", "x.mp4"], ["--conf", "0.5"]):
        assert CliRunner().invoke(command, ["--detections", str(det), *wrong]).exit_code == 2


class Stream(Source):
    """A live source whose pictures come whenever `come` is called."""

    live = True

    def __init__(self) -> None:
        super().__init__("stream", ahead=1)
        self._more = threading.Semaphore(0)
        self.given = -1

    def come(self, count: int) -> None:
        """So many pictures come, and all of them have before this returns."""
        until = self.given + count
        for _ in range(count):
            self._more.release()
        for _ in range(2000):
            if self.given >= until:
                return
            threading.Event().wait(0.005)
        raise AssertionError("they never came")

    def _frames(self) -> Iterator[Frame]:
        picture = np.zeros((20, 20, 3), np.uint8)
        for index in range(1000):
            assert self._more.acquire(timeout=30)
            self.given = index - 1  # those before it are in the buffer by now
            yield Frame(index, index / 100, picture, "stream")


def test_a_live_source_is_answered_with_its_newest_picture() -> None:
    """While one picture is looked at, ten come: nine are dropped, and the delay stays that of one picture."""
    stream = Stream()
    seen: list[int] = []

    def detect(frame: Frame) -> list[dict[str, Any]]:
        seen.append(frame.index)
        stream.come(10)
        return []

    stream._more.release()
    delay = Delay()
    with stream:
        for shown in follow_source(stream, detect, Session(Following()), delay=delay):
            assert shown.step.frame == shown.frame.index == seen[-1]
            if len(seen) == 6:
                break
    assert all(later - earlier >= 9 for earlier, later in pairwise(seen))
    assert stream.dropped >= 8 * 5
    assert delay.frames >= 5 and delay.longest >= delay.mean >= 0


def test_a_file_drops_nothing() -> None:
    rows = {i: [{"label": "car", "class": 0, "score": 1.0, "box": [i, 5, i + 20, 25]}] for i in range(30)}
    with Given("det", rows, 10.0) as source:
        shown = list(follow_source(source, lambda frame: rows[frame.index], Session(Following())))
    assert [each.step.frame for each in shown] == list(range(30)) and source.dropped == 0
