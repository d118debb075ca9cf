"""Live sources: real HTTP and RTSP servers that are cut and come back."""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from modelport.errors import InputError, NotFound, Unavailable
from modelport.media import live
from modelport.media.decoder import Decoder
from modelport.media.sources import open_source

from .films import MotionJpeg, av, free_port, pictures, web, write_film
from .rtsp import RtspServer


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(live, "FIRST_PAUSE", 0.02)


def test_a_cut_http_stream_is_taken_up_again() -> None:
    with MotionJpeg([8, 8, None]) as server, open_source(server.url) as source:
        frames = [frame for frame, _ in zip(source, range(30), strict=False)]
        assert source.live and source.reconnects == 2 and server.connections == 3
    times = [frame.seconds for frame in frames]
    numbers = [frame.index for frame in frames]
    assert times == sorted(times) and numbers == sorted(set(numbers))
    assert all(frame.picture.shape == (120, 160, 3) for frame in frames)
    assert all(frame.picture[50, 44, 0] > 180 > 60 > frame.picture[50, 44, 1] for frame in frames)


def test_an_rtsp_stream_is_decoded_and_taken_up_again_and_its_password_is_not_told() -> None:
    with RtspServer([20, None]) as server, open_source(server.url) as source:
        frames = [frame for frame, _ in zip(source, range(30), strict=False)]
        assert source.reconnects == 1 and server.played == 2
    assert all(frame.picture.shape == (120, 160, 3) for frame in frames)
    assert "secret" not in source.name and source.name.startswith("rtsp://127.0.0.1:")
    difference = frames[0].picture.astype(int) - np.array([223, 19, 20])
    assert np.abs(difference[40:60, 20:40]).mean() < 12


@pytest.mark.parametrize("kept", [0.0, 0.6, 0.9])
def test_a_damaged_picture_of_a_stream_is_counted_and_skipped(kept: float) -> None:
    whole = [picture.astype(int) for picture in pictures(20)]
    with MotionJpeg([40, None], break_every=5, kept=kept) as server, open_source(server.url) as source:
        for frame, _ in zip(source, range(40), strict=False):
            # What is left of a picture would be answered as if it had been seen.
            assert min(np.abs(frame.picture - picture).mean() for picture in whole) < 6
        assert source.corrupt >= 8


def test_a_camera_whose_every_picture_has_a_fault_is_still_seen() -> None:
    with MotionJpeg([None], break_every=1, kept=0.9) as server, open_source(server.url) as source:
        assert len([frame for frame, _ in zip(source, range(10), strict=False)]) == 10
        assert source.corrupt == 0


def test_a_stream_that_does_not_come_back_is_given_up_after_so_many_tries() -> None:
    server = MotionJpeg([5]).__enter__()
    with open_source(server.url, reconnects=3) as source:
        next(source)
        server.__exit__()
        with pytest.raises(Unavailable, match="gone after 3 attempts"):
            list(source)


def test_a_stream_that_is_always_cut_at_once_is_given_up_too() -> None:
    with (
        MotionJpeg([3, 0]) as server,
        open_source(server.url, reconnects=2) as source,
        pytest.raises(Unavailable, match="attempts"),
    ):
        list(source)
    assert server.connections <= 5


def test_a_stream_that_falls_silent_is_taken_up_again() -> None:
    with (
        MotionJpeg([8, None], silent=True) as server,
        open_source(server.url, timeout=0.4) as source,
    ):
        frames = [frame for frame, _ in zip(source, range(20), strict=False)]
        assert source.reconnects == 1 and server.connections == 2 and len(frames) == 20


def test_a_server_that_accepts_and_says_nothing_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(Unavailable):
            open_source(f"rtsp://{address}/cam", timeout=0.3)
        with pytest.raises(Unavailable, match="timed out"):
            open_source(f"http://{address}/cam", timeout=0.3)


def test_without_tries_a_cut_is_the_end() -> None:
    with MotionJpeg([5]) as server, open_source(server.url, reconnects=0) as source:
        assert 1 <= len(list(source)) <= 5 and server.connections == 1


def test_a_slow_taker_gets_the_newest_frame_and_the_others_are_counted() -> None:
    with MotionJpeg([None], pause=0.002) as server, open_source(server.url) as source:
        first = next(source)
        for _ in range(3000):
            if source.dropped >= 20:
                break
            time.sleep(0.01)
        later = next(source)
        assert source.dropped >= 20 and later.index > first.index + 20 and later.seconds > first.seconds


def test_fewer_frames_a_second_are_asked_for_and_come() -> None:
    with MotionJpeg([None], pause=0.002) as server, open_source(server.url, fps=20) as source:
        times = [frame.seconds for frame, _ in zip(source, range(6), strict=False)]
    assert times[-1] >= 0.2 and source.fps == 20
    slots = [int(time * 20 + 1e-3) for time in times]
    assert slots == sorted(set(slots))


def test_a_source_can_be_stopped_while_it_waits_for_a_stream() -> None:
    with MotionJpeg([2], pause=0.0) as server:
        source = open_source(server.url, reconnects=1000)
        next(source)
    source.stop()
    assert list(source) == []
    source.close()


def test_no_server_and_no_such_stream_are_told_at_once() -> None:
    with pytest.raises(Unavailable, match="refused"):
        open_source(f"http://127.0.0.1:{free_port()}/stream")
    with pytest.raises(Unavailable, match="refused"):
        open_source(f"rtsp://127.0.0.1:{free_port()}/cam")
    page = {"/page": (200, "text/html", b"<html>no video</html>")}
    with web(page) as address:
        with pytest.raises(NotFound, match="404"):
            open_source(f"{address}/nothing")
        with pytest.raises(InputError, match="no video"):
            open_source(f"{address}/page")


def test_a_camera_without_a_new_picture_is_asked_again(tmp_path: Path) -> None:
    """macOS' cameras answer EAGAIN while there is no picture; here a film does, before every packet."""

    class Camera:
        def __init__(self, film: Any, *, silent: bool = False) -> None:
            self._packets: Iterator[Any] = film.demux(video=0)
            self._silent = silent
            self._ready = False
            self.close = film.close

        def demux(self, stream: Any) -> Iterator[Any]:
            while True:
                self._ready = not self._ready and not self._silent
                if not self._ready:
                    raise av.error.BlockingIOError(35, "Resource temporarily unavailable")
                packet = next(self._packets, None)
                if packet is None:
                    return
                yield packet

    film = str(write_film(tmp_path / "film.mp4", pictures(4)))
    decoder = Decoder(film, timeout=0.05)
    decoder._container = Camera(decoder._container)
    assert len(list(decoder.pictures(lambda seconds: True))) == 4 and decoder.corrupt == 0
    decoder.close()
    decoder = Decoder(film, timeout=0.05)
    decoder._container = Camera(decoder._container, silent=True)
    with pytest.raises(Unavailable, match=r"no picture for 0\.05 s"):
        list(decoder.pictures(lambda seconds: True))
    decoder.close()
