"""The video that `--save` writes, played by a real Chromium."""

from __future__ import annotations

import base64
from pathlib import Path

import numpy as np
import pytest

from modelport.media.video import VideoWriter

pytest.importorskip("playwright", reason="the browser tests need playwright")

from playwright.sync_api import Browser

PLAYED = """async film => {
  const video = document.createElement("video");
  video.muted = true;
  video.src = `data:video/mp4;base64,${film}`;
  await new Promise((done, failed) => {
    video.onloadeddata = done;
    video.onerror = () => failed(video.error.message);
  });
  await new Promise(done => { video.onseeked = done; video.currentTime = video.duration / 2; });
  const canvas = document.createElement("canvas");
  canvas.width = video.videoWidth;
  canvas.height = video.videoHeight;
  const context = canvas.getContext("2d");
  context.drawImage(video, 0, 0);
  const pixels = [...context.getImageData(0, 0, canvas.width, canvas.height).data];
  return [video.duration, canvas.width, canvas.height, pixels];
}"""

pytestmark = pytest.mark.browser


def test_a_written_video_plays_with_its_colours(browser: Browser, tmp_path: Path) -> None:
    side = 121  # odd, which H.264 is not
    shown = np.zeros((side, 161, 3), np.uint8)
    shown[:, :80], shown[:, 80:] = (200, 40, 30), (20, 90, 220)
    with VideoWriter(tmp_path / "film.mp4", 10, 161, side) as film:
        for _ in range(20):
            film.write(shown)
    page = browser.new_page()
    data = base64.b64encode((tmp_path / "film.mp4").read_bytes()).decode()
    seconds, width, height, values = page.evaluate(PLAYED, data)
    page.close()
    assert seconds == pytest.approx(2, abs=0.15)
    assert (width, height) == (162, 122)
    pixels = np.array(values, np.uint8).reshape(height, width, 4)[..., :3].astype(int)
    for at, colour in ((40, (200, 40, 30)), (120, (20, 90, 220))):
        # Taken for another standard (BT.601), the red would be 16 off.
        assert np.abs(pixels[height // 2, at] - colour).max() <= 10
