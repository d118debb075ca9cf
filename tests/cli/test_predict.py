"""`modelport predict` on photos, videos and streams, with what it keeps beside its answers."""

from __future__ import annotations

import http.server
import io
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from modelport.cli.main import run
from modelport.media import live

from ..boxes import SCENE, pack_boxes, picture_with
from ..colours import pack_colours
from ..media.films import MotionJpeg, av, free_port, jpeg, pictures, scene, web, write_film


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("predict")
    pack_boxes(where)
    pack_colours(where)
    photos = where / "shots"
    (photos / "in").mkdir(parents=True)
    (photos / "scene.png").write_bytes(picture_with(SCENE))
    (photos / "in" / "scene.png").write_bytes(picture_with(SCENE[:1]))
    (photos / "empty.jpg").write_bytes(picture_with([], kind="JPEG"))
    write_film(where / "film.mp4", pictures(30))
    return where


class Done:
    """What a call gave."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err

    @property
    def lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.out.splitlines()]


Predict = Callable[..., Done]


@pytest.fixture
def predict(folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Predict:
    """The verb, called as a shell calls it, in this process."""

    def call(*arguments: object, bundle: str = "boxes", text: str = "") -> Done:
        monkeypatch.setattr(sys, "stdin", io.StringIO(text))
        code = run(["predict", str(folder / "repo" / bundle), *map(str, arguments)])
        captured = capsys.readouterr()
        return Done(code, captured.out, captured.err)

    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.02)
    return call


def right(line: dict[str, Any], number: int) -> bool:
    """Whether a frame's answer is the rectangle of that frame, to two pixels of the network's picture."""
    (_, *box), (found,) = scene(number)[0], line["answer"]
    return found["label"] == "red" and bool(np.abs(np.array(found["box"]) - box).max() < 4)


def test_boxes_of_photos_in_a_table_and_as_json(folder: Path, predict: Predict) -> None:
    table = predict(folder / "shots" / "scene.png")
    assert table.code == 0 and "red 0." in table.out and "[40 30 120 90]" in table.out
    done = predict(folder / "shots", "--json")
    assert [Path(line["file"]).name for line in done.lines] == ["empty.jpg", "scene.png", "scene.png"]
    assert [len(line["answer"]) for line in done.lines] == [0, 1, 3] and "frame" not in done.lines[0]
    assert "3 answered in" in done.err and "a second" in done.err
    assert "nothing found" in predict(folder / "shots" / "empty.jpg").out


def test_options_thresholds_and_classes(folder: Path, predict: Predict, tmp_path: Path) -> None:
    faint = tmp_path / "faint.png"
    faint.write_bytes(picture_with(SCENE[:2], strength=0.4))
    assert [len(line["answer"]) for line in predict(faint, "--json").lines] == [2]
    for flags in (["--conf", "0.6"], ["--option", "score_threshold=0.6"]):
        assert predict(faint, "--json", *flags).lines[0]["answer"] == []
    loose = predict(folder / "shots" / "scene.png", "--json", "--iou", "1", "--conf", "0.01")
    assert len(loose.lines[0]["answer"]) == 6
    for names in ("blue,red", "2,0", "blue, red"):
        done = predict(folder / "shots" / "scene.png", "--classes", names, "--json")
        assert {found["label"] for found in done.lines[0]["answer"]} == {"red", "blue"}
    assert len(predict(folder / "shots" / "scene.png", "--top", "1", "--json").lines[0]["answer"]) == 1


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--option", "score_treshold=0.5"], "score_threshold"),
        (["--option", "score_threshold"], "NAME=VALUE"),
        (["--option", "score_threshold=2"], "from 0 to 1"),
        (["--classes", "rde"], "did you mean 'red'"),
        (["--classes", "99"], "no class 99; its classes are 0 to 2"),
        (["--conf", "0.5", "--option", "score_threshold=0.4"], "say the same"),
        (["--classes", ","], "names no class"),
        (["--fps", "0"], "--fps"),
    ],
)
def test_options_that_make_no_sense_are_2(
    flags: list[str], words: str, folder: Path, predict: Predict
) -> None:
    done = predict(folder / "shots", *flags)
    assert done.code == 2 and words in done.err and not done.out


def test_what_a_classifier_cannot_give_is_2_and_its_labels_are_drawn(
    folder: Path, predict: Predict, tmp_path: Path
) -> None:
    photo = folder / "photos" / "red.png"
    for flags in (["--save-txt", tmp_path / "t"], ["--save-coco", tmp_path / "c.json"], ["--classes", "red"]):
        done = predict(photo, *flags, bundle="colours")
        assert done.code == 2 and ("boxes" in done.err or "detections" in done.err)
    assert predict(photo, "--conf", "0.5", bundle="colours").code == 2
    large = tmp_path / "large.png"
    Image.new("RGB", (400, 300), (220, 20, 20)).save(large)
    assert predict(large, "--save", tmp_path / "out", "--timing", bundle="colours").code == 0
    drawn = np.asarray(Image.open(tmp_path / "out" / "large.png"))
    assert (drawn[:60, :60] != [220, 20, 20]).any() and (drawn[200:, 200:] == [220, 20, 20]).all()


def test_everything_that_is_kept_of_photos(folder: Path, predict: Predict, tmp_path: Path) -> None:
    keep = ["--save", tmp_path / "a", "--save-txt", tmp_path / "t", "--save-coco", tmp_path / "c.json"]
    done = predict(folder / "shots", *keep, "--save-crops", tmp_path / "x", "--save-conf", "--json")
    assert done.code == 0
    kept = {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()}
    assert {"a/scene.png", "a/in/scene.png", "a/empty.jpg", "c.json"} <= kept
    assert {
        "t/scene.txt",
        "t/in/scene.txt",
        "t/empty.txt",
        "x/red/scene-0.jpg",
        "x/red/in/scene-0.jpg",
    } <= kept
    assert not [name for name in kept if ".part" in name]
    drawn = np.asarray(Image.open(tmp_path / "a" / "scene.png"))
    assert drawn.shape == (240, 320, 3)
    assert (drawn != np.asarray(Image.open(folder / "shots" / "scene.png"))).any()
    rows = [line.split() for line in (tmp_path / "t" / "scene.txt").read_text().splitlines()]
    assert len(rows) == 3 and all(len(row) == 6 for row in rows)
    coco = json.loads((tmp_path / "c.json").read_text())
    assert [image["file_name"] for image in coco["images"]] == ["empty.jpg", "in/scene.png", "scene.png"]
    assert len(coco["annotations"]) == 4 and [c["name"] for c in coco["categories"]] == [
        "red",
        "green",
        "blue",
    ]


def test_equal_names_do_not_meet_and_inputs_are_not_written_over(
    folder: Path, predict: Predict, tmp_path: Path
) -> None:
    shots = folder / "shots"
    done = predict(
        shots / "scene.png", shots / "in" / "scene.png", "--save", tmp_path, "--save-txt", tmp_path
    )
    assert done.code == 0
    names = sorted(path.name for path in tmp_path.iterdir())
    assert names == ["scene-2.png", "scene-2.txt", "scene.png", "scene.txt"]
    assert len((tmp_path / "scene-2.txt").read_text().splitlines()) == 1
    done = predict(tmp_path / "scene.png", "--save", tmp_path)
    assert done.code == 2 and "written over" in done.err


def test_a_video_gives_a_line_for_each_frame_and_a_video(
    folder: Path, predict: Predict, tmp_path: Path
) -> None:
    done = predict(folder / "film.mp4", "--json", "--save", tmp_path, "--save-txt", tmp_path / "t")
    assert done.code == 0 and [line["frame"] for line in done.lines] == list(range(30))
    assert [line["seconds"] for line in done.lines] == pytest.approx([n / 25 for n in range(30)], abs=1e-3)
    assert all(right(line, number) for number, line in enumerate(done.lines))
    with av.open(str(tmp_path / "film.mp4")) as film:
        shown = [frame.to_ndarray(format="rgb24") for frame in film.decode(video=0)]
    assert len(shown) == 30 and shown[0].shape == (120, 160, 3)
    assert len(list((tmp_path / "t").iterdir())) == 30 and (tmp_path / "t" / "film_000029.txt").exists()
    assert "30 answered in" in done.err


def test_some_frames_of_a_video_and_photos_beside_it(folder: Path, predict: Predict, tmp_path: Path) -> None:
    film, photo = folder / "film.mp4", folder / "shots" / "scene.png"
    done = predict(
        photo, film, photo, "--fps", "5", "--frames", "4", "--json", "--save-coco", tmp_path / "c.json"
    )
    assert [line.get("frame") for line in done.lines] == [None, 0, 5, 10, 15, None]
    names = [image["file_name"] for image in json.loads((tmp_path / "c.json").read_text())["images"]]
    assert names == ["scene.png", *(f"film_{n:06d}.mp4" for n in (0, 5, 10, 15)), "scene.png"]
    table = predict(film, "--frames", "2")
    assert "film.mp4\t0\t0.00\tred 0." in table.out


def test_a_stream_is_taken_up_again_and_kept(predict: Predict, tmp_path: Path) -> None:
    with MotionJpeg([10, None]) as server:
        done = predict(server.url, "--frames", "20", "--json", "--save", tmp_path, "--timing")
    assert done.code == 0 and len(done.lines) == 20 and "1 connected anew" in done.err
    (film,) = tmp_path.iterdir()
    assert film.name == f"127.0.0.1_{server.port}-stream.mp4"
    with av.open(str(film)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == 20


def test_a_stream_that_is_gone_leaves_what_came(predict: Predict, tmp_path: Path) -> None:
    with MotionJpeg([10, 0]) as server:
        done = predict(server.url, "--json", "--save", tmp_path, "--reconnect", "2")
    assert done.code == 4 and "gone after 2 attempts" in done.lines[-1]["error"]
    assert len(list(tmp_path.glob("*.mp4"))) == 1 and len(done.lines) > 1


def test_names_and_addresses_come_on_standard_input(folder: Path, predict: Predict, tmp_path: Path) -> None:
    photo = (folder / "shots" / "scene.png").read_bytes()
    files = {"/a.png": (200, "image/png", photo), "/b": (200, "image/jpeg", jpeg(pictures(1)[0]))}
    with web(files) as address:
        names = [f"{address}/a.png", f"{address}/b?x=1", f"{address}/none.png", str(folder / "film.mp4")]
        done = predict("-", "--json", "--frames", "2", "--save", tmp_path, text="\n".join(names) + "\n")
        again = predict(*names[:2], "--json")
    assert done.code == 3 and len(done.lines) == 5
    assert [len(line.get("answer", [])) for line in done.lines] == [3, 1, 0, 1, 1]
    assert "404" in done.lines[2]["error"] and [line.get("frame") for line in done.lines[3:]] == [0, 1]
    host = address.removeprefix("http://").replace(":", "_")
    assert {path.name for path in tmp_path.iterdir()} == {f"{host}-a.png", f"{host}-b.jpg", "film.mp4"}
    assert again.code == 0 and [len(line["answer"]) for line in again.lines] == [3, 1]


def test_names_that_are_there_are_answered_side_by_side(predict: Predict) -> None:
    photo = jpeg(pictures(1)[0])
    together = threading.Barrier(2)

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            together.wait(20)  # one request alone would wait in vain
            self.send_response(200)
            self.send_header("Content-Length", str(len(photo)))
            self.end_headers()
            self.wfile.write(photo)

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    names = [f"http://127.0.0.1:{server.server_address[1]}/{number}.jpg" for number in range(6)]
    done = predict("-", "--json", "--threads", "2", text="\n".join([names[0], "", *names[1:]]))
    server.shutdown()
    server.server_close()
    assert done.code == 0 and [line["file"] for line in done.lines] == names
    assert all(len(line["answer"]) == 1 for line in done.lines)


def test_an_interrupt_ends_the_wait_for_names(folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "modelport", "predict", "repo/boxes", "-", "--json"],
        cwd=folder,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None and process.stderr is not None
    process.stdin.write("shots/scene.png\n")
    process.stdin.flush()
    assert len(json.loads(process.stdout.readline())["answer"]) == 3
    process.send_signal(signal.SIGINT)
    assert process.wait(30) == 130
    err = process.stderr.read()
    for pipe in (process.stdin, process.stdout, process.stderr):
        pipe.close()
    assert "interrupted" in err and "Fatal" not in err and "Traceback" not in err


def test_what_cannot_be_read_stands_in_its_place(folder: Path, predict: Predict, tmp_path: Path) -> None:
    broken = tmp_path / "broken.mp4"
    broken.write_bytes((folder / "film.mp4").read_bytes()[:300])
    done = predict(broken, folder / "shots" / "scene.png", tmp_path / "none.mp4", "99", "--json")
    assert done.code >= 3 and [bool(line.get("error")) for line in done.lines] == [True, False, True, True]
    for scheme in ("rtsp", "http"):
        nobody = predict(f"{scheme}://user:secret@127.0.0.1:{free_port()}/cam", "--json")
        assert nobody.code == 4 and "refused" in nobody.lines[0]["error"]
        assert "secret" not in nobody.out + nobody.err and "user" not in nobody.out


def test_what_matches_nothing_stands_in_its_place(folder: Path, predict: Predict, tmp_path: Path) -> None:
    empty, pattern = tmp_path / "empty", tmp_path / "none" / "*.mp4"
    empty.mkdir()
    scene = folder / "shots" / "scene.png"
    keep = ["--save", tmp_path / "out", "--save-coco", tmp_path / "c.json"]
    done = predict(pattern, scene, empty, "--json", *keep)
    assert done.code == 3 and "2 could not be answered" in done.err
    assert [line.get("error") for line in done.lines] == [
        f"nothing matches {pattern}",
        None,
        f"nothing matches {empty}: no pictures or videos in it",
    ]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["scene.png"]
    alone = predict(empty)
    assert alone.code == 3 and "nothing matches" in alone.err and not alone.out and ".jpg" not in alone.err


def test_damage_is_counted_on_standard_error(predict: Predict, tmp_path: Path) -> None:
    film = write_film(tmp_path / "f.ts", pictures(40), noise=True)
    data = bytearray(film.read_bytes())
    for place in range(len(data) // 3, len(data) // 2, 997):
        data[place] ^= 64
    film.write_bytes(data)
    done = predict(film, "--json")
    assert done.code == 0 and 5 < len(done.lines) < 40 and "damaged and skipped" in done.err


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_finishes_what_was_begun(number: signal.Signals, folder: Path, tmp_path: Path) -> None:
    with MotionJpeg([None]) as server:
        keep = ["--save", str(tmp_path / "a"), "--save-coco", str(tmp_path / "c.json")]
        process = subprocess.Popen(
            [sys.executable, "-m", "modelport", "predict", "repo/boxes", server.url, "--json", *keep],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"NO_COLOR": "1"},
        )
        assert process.stdout is not None
        for _ in range(10):
            assert json.loads(process.stdout.readline())["answer"]
        process.send_signal(number)
        out, err = process.communicate(timeout=30)
    assert process.returncode == 130 and "interrupted" in err and "Traceback" not in err, err
    count = 10 + len(out.splitlines())
    (film,) = (tmp_path / "a").iterdir()
    with av.open(str(film)) as opened:
        assert sum(1 for _ in opened.decode(video=0)) == count
    assert len(json.loads((tmp_path / "c.json").read_text())["images"]) == count


def test_a_reader_that_leaves_ends_a_video_too(folder: Path, tmp_path: Path) -> None:
    command = (
        f"{sys.executable} -m modelport predict repo/boxes film.mp4 --json --save {tmp_path} | head -n 1"
    )
    done = subprocess.run(
        ["bash", "-c", f"set -o pipefail; {command}"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0 and "Traceback" not in done.stderr and json.loads(done.stdout)["frame"] == 0
    assert [path.suffix for path in tmp_path.iterdir() if ".part" not in path.name] == [".mp4"]
