"""H.264 files: complete under their name or not there, with the right pictures, colours and times."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from modelport.errors import InputError
from modelport.media.video import VideoWriter

from .films import av, pictures, web

CHROMIUM = os.environ.get("CHROMIUM", "/usr/bin/chromium")


def read(path: Path) -> tuple[list[np.ndarray], list[float]]:
    with av.open(str(path)) as container:
        frames = list(container.decode(video=0))
    return [frame.to_ndarray(format="rgb24") for frame in frames], [frame.time for frame in frames]


@pytest.mark.parametrize("size", [(160, 120), (161, 121), (17, 33), (1, 1)])
def test_what_is_written_comes_back(size: tuple[int, int], tmp_path: Path) -> None:
    width, height = size
    picture = np.zeros((height, width, 3), np.uint8)
    picture[:] = (40, 90, 200)
    picture[: height // 2] = (220, 60, 30)
    with VideoWriter(tmp_path / "a.mp4", 25, width, height) as writer:
        for _ in range(10):
            writer.write(picture)
    shown, times = read(tmp_path / "a.mp4")
    assert len(shown) == 10 and times == pytest.approx([n / 25 for n in range(10)])
    assert shown[0].shape == (height + height % 2, width + width % 2, 3)
    if height > 4:
        assert np.abs(shown[5][0, 0].astype(int) - [220, 60, 30]).max() < 10
        assert np.abs(shown[5][-1, -1].astype(int) - [40, 90, 200]).max() < 10


def test_browsers_find_what_they_ask_for_in_the_file(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 30000 / 1001, 160, 120) as writer:
        for picture in pictures(30):
            writer.write(picture)
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        assert stream.codec_context.name == "h264" and stream.codec_context.pix_fmt == "yuv420p"
        assert float(stream.average_rate) == pytest.approx(29.97, abs=0.01) and stream.frames == 30
        assert stream.codec_context.colorspace == 1


def test_times_are_kept_and_never_go_back(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, 160, 120) as writer:
        for picture, seconds in zip(pictures(5), [0.0, 0.1, 0.05, 0.9, 1.0], strict=True):
            writer.write(picture, seconds)
    _, times = read(tmp_path / "a.mp4")
    assert times == pytest.approx([0.0, 0.1, 0.1, 0.9, 1.0], abs=1e-3) and times == sorted(set(times))


def test_a_picture_of_another_size_is_fitted_in(tmp_path: Path) -> None:
    with VideoWriter(tmp_path / "a.mp4", 25, 160, 120) as writer:
        writer.write(np.full((120, 160, 3), 200, np.uint8))
        writer.write(np.full((300, 100, 3), 200, np.uint8))
    shown, _ = read(tmp_path / "a.mp4")
    assert shown[1].shape == (120, 160, 3)
    assert abs(int(shown[1][60, 80, 0]) - 200) < 8 and int(shown[1][60, 5, 0]) < 20


def test_nothing_is_there_before_the_end_or_after_an_error(tmp_path: Path) -> None:
    path = tmp_path / "in" / "a.mp4"
    writer = VideoWriter(path, 25, 160, 120)
    writer.write(pictures(1)[0])
    assert not path.exists() and len(list(path.parent.iterdir())) == 1
    with pytest.raises(ValueError), writer:
        writer.write(np.zeros((120, 160, 7), np.uint8))
    assert list(path.parent.iterdir()) == []
    with VideoWriter(path, 25, 160, 120):
        pass
    assert list(path.parent.iterdir()) == []
    path.write_bytes(b"an older one")
    writer = VideoWriter(path, 25, 160, 120)
    writer.write(pictures(1)[0])
    writer.abandon()
    writer.close()
    assert path.read_bytes() == b"an older one" and len(list(path.parent.iterdir())) == 1
    with pytest.raises(InputError, match="closed"):
        writer.write(pictures(1)[0])


@pytest.mark.parametrize("given", [(0, 10, 25.0), (10, -1, 25.0), (10, 10, 0.0), (10, 10, float("nan"))])
def test_sizes_and_rates_that_are_none_are_refused(given: tuple[int, int, float], tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected a size"):
        VideoWriter(tmp_path / "a.mp4", given[2], given[0], given[1])
    assert list(tmp_path.iterdir()) == []


def test_what_the_encoder_refuses_is_told(tmp_path: Path) -> None:
    writer = VideoWriter(tmp_path / "a.mp4", 25, 40_000, 2)
    with pytest.raises(InputError, match="40000 x 2 pixels cannot be encoded"):
        writer.write(np.zeros((2, 40_000, 3), np.uint8))
    assert list(tmp_path.iterdir()) == []


_FILL = """
import resource, sys
import numpy as np
from modelport.media.video import VideoWriter
resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, 60_000))
noise = np.random.default_rng(0)
try:
    with VideoWriter(sys.argv[1], 25, 320, 240) as writer:
        for _ in range(200):
            writer.write(noise.integers(0, 255, (240, 320, 3), np.uint8))
except OSError as problem:
    print("refused", problem.errno)
"""


def test_a_full_disk_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _FILL, str(tmp_path / "a.mp4")],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0 and done.stdout.startswith("refused"), done.stderr
    assert list(tmp_path.iterdir()) == []


_ENDLESS = """
import sys
import numpy as np
from modelport.media.video import VideoWriter
writer = VideoWriter(sys.argv[1], 25, 64, 64)
while True:
    writer.write(np.zeros((64, 64, 3), np.uint8))
    print("written", flush=True)
"""


def test_a_killed_process_leaves_no_file_of_the_name(tmp_path: Path) -> None:
    command = [sys.executable, "-c", _ENDLESS, str(tmp_path / "a.mp4")]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None and process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait(10)
        process.stdout.close()
    assert not (tmp_path / "a.mp4").exists()
    assert [path.suffixes[-2:] for path in tmp_path.iterdir()] == [[".part", ".mp4"]]


@pytest.mark.browser
def test_a_browser_plays_it(tmp_path: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api", reason="needs playwright")
    if not (shutil.which(CHROMIUM) or Path(CHROMIUM).exists()):
        pytest.skip(f"no Chromium at {CHROMIUM}")
    with VideoWriter(tmp_path / "a.mp4", 25, 161, 121) as writer:
        for number in range(50):
            picture = np.zeros((121, 161, 3), np.uint8)
            picture[:] = (30, 40, 210)
            picture[:, : 3 * number] = (230, 120, 20)
            writer.write(picture)
    files = {
        "/": (200, "text/html", b"<video id=v muted src=a.mp4></video>"),
        "/a.mp4": (200, "video/mp4", (tmp_path / "a.mp4").read_bytes()),
    }
    with web(files) as address, sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox", "--headless"])
        page = browser.new_page()
        page.goto(address)
        page.evaluate("document.getElementById('v').play()")
        page.wait_for_function("document.getElementById('v').ended", timeout=20_000)
        played = page.evaluate(
            """async () => {
                const v = document.getElementById('v');
                const c = new OffscreenCanvas(v.videoWidth, v.videoHeight), g = c.getContext('2d');
                g.drawImage(v, 0, 0);
                const at = (x, y) => Array.from(g.getImageData(x, y, 1, 1).data.slice(0, 3));
                return {width: v.videoWidth, height: v.videoHeight, seconds: v.duration,
                        left: at(30, 60), right: at(155, 60)};
            }"""
        )
        browser.close()
    assert (played["width"], played["height"]) == (162, 122) and played["seconds"] == pytest.approx(
        2, abs=0.1
    )
    assert np.abs(np.array(played["left"]) - [230, 120, 20]).max() < 14, played
    assert np.abs(np.array(played["right"]) - [30, 40, 210]).max() < 14, played
