"""Pictures, folders and video files as frames: all of them, upright, with their times."""

from __future__ import annotations

import gc
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from modelport.errors import (
    InputError,
    ModelportError,
    NotFound,
    TooLarge,
    Unauthorized,
    Unavailable,
    Unsupported,
    UnsupportedMedia,
)
from modelport.media.av import INSTALL
from modelport.media.decoder import turned
from modelport.media.fetch import content_type, fetch
from modelport.media.kinds import is_url, kind_of, shown
from modelport.media.sources import open_source

from .films import av, jpeg, pictures, web, write_film


@pytest.fixture(scope="module")
def film(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_film(tmp_path_factory.mktemp("film") / "film.mp4", pictures(50), noise=True)


def test_what_a_name_is_shows_in_its_form(tmp_path: Path) -> None:
    (tmp_path / "7").touch()
    assert kind_of(str(tmp_path)) == kind_of("photos/*.jpg") == "pictures"
    assert kind_of("0") == kind_of("/dev/video1") == "camera"
    assert kind_of(str(tmp_path / "7")) == kind_of("a.jpg") == "picture"
    assert kind_of("a.MP4") == kind_of("a.mkv") == "video"
    assert kind_of("https://host/a.jpg?x=1") == "picture"
    assert (
        kind_of("rtsp://host/a.jpg") == kind_of("http://host/a.mp4") == kind_of("http://host/a") == "stream"
    )


def test_a_file_without_an_ending_is_told_by_its_first_bytes(film: Path, tmp_path: Path) -> None:
    write_film(tmp_path / "a.mkv", pictures(2)).rename(tmp_path / "matroska")
    write_film(tmp_path / "a.avi", pictures(2), codec="mjpeg", pixels="yuvj420p").rename(
        tmp_path / "riff.dat"
    )
    (tmp_path / "mp4").write_bytes(film.read_bytes())
    (tmp_path / "photo").write_bytes(jpeg(pictures(1)[0]))
    for name, count in (("matroska", 2), ("riff.dat", 2), ("mp4", 50), ("photo", 1)):
        with open_source(str(tmp_path / name)) as source:
            assert len(list(source)) == count, name


def test_a_file_gives_every_frame_with_its_number_and_time(film: Path) -> None:
    with open_source(str(film)) as source:
        frames = list(source)
        assert (source.fps, source.total, source.missing, source.corrupt) == (25, 50, 0, 0)
    assert [frame.index for frame in frames] == list(range(50))
    assert [frame.seconds for frame in frames] == pytest.approx([number / 25 for number in range(50)])
    assert all(f.picture.dtype == np.uint8 and f.picture.shape == (120, 160, 3) for f in frames)
    assert all(f.picture.flags.c_contiguous for f in frames)


def test_colours_are_those_that_were_filmed(tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mp4", pictures(3))
    with open_source(str(film)) as source:
        first = next(source).picture
    assert np.abs(first[40:60, 20:40].astype(int) - [224, 20, 20]).max() < 6
    assert np.abs(first[100:, 100:].astype(int) - 90).max() < 6


def test_fewer_frames_a_second_are_picked_by_their_times(film: Path) -> None:
    with open_source(str(film), fps=10) as source:
        assert source.fps == 10 and source.total == 20
        frames = list(source)
    assert [frame.index for frame in frames] == [
        0,
        3,
        5,
        8,
        10,
        13,
        15,
        18,
        20,
        23,
        25,
        28,
        30,
        33,
        35,
        38,
        40,
        43,
        45,
        48,
    ]
    with open_source(str(film), fps=100) as source:
        assert len(list(source)) == 50 and source.fps == 25


def test_a_variable_rate_keeps_its_times(tmp_path: Path) -> None:
    times = [0.0, 0.04, 0.5, 0.54, 1.3, 2.0]
    film = write_film(tmp_path / "v.mp4", pictures(6), times=times)
    with open_source(str(film)) as source:
        assert [frame.seconds for frame in source] == pytest.approx(times, abs=2e-3)


def test_recordings_put_together_go_on_in_time_and_may_change_their_size(tmp_path: Path) -> None:
    one = write_film(tmp_path / "1.ts", pictures(10))
    other = write_film(tmp_path / "2.ts", pictures(10, (320, 240)))
    both = tmp_path / "both.ts"
    both.write_bytes(one.read_bytes() + other.read_bytes())
    with open_source(str(both)) as source:
        frames = list(source)
    assert [frame.picture.shape[1] for frame in frames] == [160] * 10 + [320] * 10
    assert [frame.seconds for frame in frames] == pytest.approx([n / 25 for n in range(20)], abs=2e-3)


@pytest.mark.parametrize(
    ("codec", "pixels"),
    [("libx264", "yuv420p10le"), ("libx264", "yuv444p"), ("ffv1", "bgr0"), ("libvpx-vp9", "yuva420p")],
)
def test_other_codecs_and_pixels_have_the_same_colours(codec: str, pixels: str, tmp_path: Path) -> None:
    film = write_film(tmp_path / "a.mkv", pictures(3), codec=codec, pixels=pixels)
    with open_source(str(film)) as source:
        picture = next(source).picture
    assert np.abs(picture[40:60, 20:40].astype(int) - [224, 20, 20]).max() < 8


def test_a_file_with_sound_alone_is_told(tmp_path: Path) -> None:
    path = tmp_path / "sound.mp4"
    with av.open(str(path), "w") as container:
        stream = container.add_stream("aac", rate=44100)
        silence = av.AudioFrame.from_ndarray(np.zeros((1, 1024), np.float32), format="fltp", layout="mono")
        silence.sample_rate = 44100
        container.mux([*stream.encode(silence), *stream.encode(None)])
    with pytest.raises(InputError, match="no video"):
        open_source(str(path))


@pytest.mark.parametrize(("turn", "quarters"), [(90, 1), (180, 2), (-90, 3), (0, 0)])
def test_a_phones_video_stands_upright(turn: int, quarters: int, tmp_path: Path) -> None:
    plain = write_film(tmp_path / "plain.mp4", pictures(2))
    film = write_film(tmp_path / "turned.mp4", pictures(2), turn=turn)
    with open_source(str(plain)) as one, open_source(str(film)) as other:
        upright, got = next(one).picture, next(other).picture
    assert np.array_equal(got, np.rot90(upright, quarters)) and got.flags.c_contiguous


def test_mirrored_pictures_are_mirrored_back_and_odd_angles_left() -> None:
    picture = np.arange(24, dtype=np.uint8).reshape(2, 4, 3)
    one = 1 << 16
    assert np.array_equal(turned(picture, (-one, 0, 0, 0, one, 0, 0, 0, 0)), picture[:, ::-1])
    assert np.array_equal(turned(picture, (one, 0, 0, 0, -one, 0, 0, 0, 0)), picture[::-1])
    assert np.array_equal(turned(picture, (0, one, 0, one, 0, 0, 0, 0, 0)), picture.transpose(1, 0, 2))
    assert turned(picture, (one, one, 0, -one, one, 0, 0, 0, 0)) is picture
    assert turned(picture, (0,) * 9) is picture


def test_a_film_that_was_cut_off_gives_what_is_there_and_says_what_is_missing(tmp_path: Path) -> None:
    whole = write_film(tmp_path / "whole.mkv", pictures(50), noise=True).read_bytes()
    (tmp_path / "cut.mkv").write_bytes(whole[: len(whole) // 2])
    with open_source(str(tmp_path / "cut.mkv")) as source:
        assert 5 <= len(list(source)) < 50
    # An index in front lists what does not come; one at the end is what is missing.
    front = write_film(tmp_path / "front.mp4", pictures(50), noise=True)
    data = front.read_bytes()
    front.write_bytes(data[: len(data) * 2 // 3])
    with open_source(str(front)) as source:
        came = len(list(source))
        assert 0 < came < 50 and source.missing == 50 - came - source.corrupt
    back = write_film(tmp_path / "back.mp4", pictures(20), faststart=False).read_bytes()
    (tmp_path / "back.mp4").write_bytes(back[: len(back) // 2])
    with pytest.raises(InputError, match="no video that can be read") as failure:
        open_source(str(tmp_path / "back.mp4"))
    assert "complete" in str(failure.value.hint)


@pytest.mark.parametrize(
    ("name", "codec", "pixels"),
    [("f.mp4", "libx264", "yuv420p"), ("f.avi", "mjpeg", "yuvj420p"), ("f.ts", "mpeg2video", "yuv420p")],
)
def test_damaged_frames_are_counted_and_skipped(name: str, codec: str, pixels: str, tmp_path: Path) -> None:
    path = write_film(tmp_path / name, pictures(50), codec=codec, pixels=pixels, noise=True)
    data = bytearray(path.read_bytes())
    dice = np.random.default_rng(3)
    for _ in range(40):
        place = int(dice.integers(len(data) // 4, len(data) * 3 // 4))
        data[place] ^= 1 << int(dice.integers(8))
    path.write_bytes(data)
    with open_source(str(path)) as source:
        frames = list(source)
        assert source.corrupt > 0 and 5 <= len(frames) < 50
    numbers = [frame.index for frame in frames]
    assert numbers == sorted(set(numbers))


def test_no_damage_ends_the_process_or_hangs_it(film: Path, tmp_path: Path) -> None:
    data = film.read_bytes()
    dice = np.random.default_rng(5)
    for length in (0, 10, 48, 406, 800, 2000, 4000):
        for path in (tmp_path / "a.mp4", tmp_path / "a.ts"):
            path.write_bytes(data[:length])
            with pytest.raises((InputError, Unavailable, StopIteration)):
                next(open_source(str(path)))
    for _ in range(6):
        broken = bytearray(data)
        for place in dice.integers(0, len(data), 60):
            broken[place] = int(dice.integers(256))
        path = tmp_path / "b.mp4"
        path.write_bytes(broken)
        try:
            with open_source(str(path)) as source:
                assert len(list(source)) <= 60
        except InputError:
            pass


def test_leaving_early_ends_the_thread(film: Path) -> None:
    before = threading.active_count()
    with open_source(str(film)) as source:
        next(source)
    assert threading.active_count() == before
    never_read = open_source(str(film))
    never_read.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del never_read
        gc.collect()


def test_a_folder_and_a_glob_are_their_pictures_in_order(tmp_path: Path) -> None:
    for number, name in enumerate(["b.jpg", "a.png", "in/c.jpg"]):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        Image.new("RGB", (8 + number, 6)).save(path)
    (tmp_path / "notes.txt").write_text("no picture")
    with open_source(str(tmp_path), fps=10) as source:
        frames = list(source)
    assert [Path(frame.name).name for frame in frames] == ["a.png", "b.jpg", "c.jpg"]
    assert [frame.seconds for frame in frames] == [0.0, 0.1, 0.2]
    with open_source(str(tmp_path / "*.jpg")) as source:
        assert [Path(frame.name).name for frame in source] == ["b.jpg"]
    with pytest.raises(NotFound, match=r"\.jpeg"):
        open_source(str(tmp_path / "*.txt"))
    with (
        pytest.raises(UnsupportedMedia, match=r"notes\.txt"),
        open_source(str(tmp_path / "notes.txt")) as source,
    ):
        next(source)


def test_no_file_no_camera_and_a_wrong_rate_are_told(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=r"none\.mp4"):
        open_source(str(tmp_path / "none.mp4"))
    with pytest.raises((NotFound, Unavailable), match=r"camera 97|video97"):
        open_source("97")
    with pytest.raises(InputError, match="fps"):
        open_source("a.mp4", fps=0)


def test_without_pyav_pictures_work_and_videos_name_the_command(
    film: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "av", None)
    with pytest.raises(Unsupported) as failure:
        open_source(str(film))
    assert failure.value.hint == INSTALL
    Image.new("RGB", (4, 4)).save(tmp_path / "a.png")
    with open_source(str(tmp_path / "a.png")) as source:
        assert next(source).picture.shape == (4, 4, 3)


def test_pictures_and_films_come_from_web_addresses(film: Path, tmp_path: Path) -> None:
    back = write_film(tmp_path / "back.mp4", pictures(50), noise=True, faststart=False)
    photo = jpeg(pictures(1)[0])
    files = {
        "/a.jpg": (200, "image/jpeg", photo),
        "/photo": (200, "image/jpeg", photo),
        "/film.mp4": (200, "video/mp4", film.read_bytes()),
        "/back.mp4": (200, "video/mp4", back.read_bytes()),
    }
    with web(files) as address:
        for name in ("a.jpg", "photo"):
            with open_source(f"{address}/{name}?size=1") as source:
                assert next(source).picture.shape == (120, 160, 3) and not source.live
        with open_source(f"{address}/film.mp4") as source:
            assert len(list(source)) == 50 and not source.live
        with open_source(f"{address}/back.mp4") as source, pytest.raises(Unavailable, match="cut") as failure:
            next(source)
        assert "faststart" in str(failure.value.hint)


def test_what_is_fetched_is_bounded_and_comes_from_http_only(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("x")
    files = {"/big": (200, "image/png", bytes(5000)), "/endless": (200, "image/endless", bytes(5000))}
    loops = {
        "/file": f"file://{tmp_path}/secret",
        "/ftp": "ftp://127.0.0.1/x",
        "/round": "/round",
        "/ok": "/big",
    }
    with web(files | {"/down": (503, "text/plain", b"")}, redirects=loops) as address:
        assert fetch(f"{address}/ok", 5000) == bytes(5000)
        assert content_type(f"{address}/big") == "image/png"
        for path, error, words in (
            ("/big", TooLarge, "5000 bytes; at most 100"),
            ("/endless", TooLarge, "over 100 bytes"),
            ("/none", NotFound, "404"),
            ("/down", Unavailable, "503"),
            ("/file", NotFound, "not allowed"),
            ("/ftp", InputError, "http or https"),
            ("/round", (NotFound, Unavailable), "302"),
        ):
            with pytest.raises(error, match=words):
                fetch(address + path, 100)
    for text in ("file:///etc/passwd", "ftp://127.0.0.1/x"):
        with pytest.raises(InputError):
            fetch(text, 100)


@pytest.mark.parametrize("name", ["evil.mp4", "evil.m3u8", "evil.mkv"])
def test_a_file_from_a_stranger_does_not_reach_out(name: str, film: Path, tmp_path: Path) -> None:
    """Playlists that name other files and addresses, under the name of a video too."""
    asked: list[str] = []
    with web({"/a.ts": (200, "video/mp2t", film.read_bytes())}, asked=asked) as address:
        playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{address}/a.ts\n#EXT-X-ENDLIST\n"
        concat = f"ffconcat version 1.0\nfile '{address}/a.ts'\nfile '/etc/hostname'\n"
        for text in (playlist, concat):
            (tmp_path / name).write_text(text)
            with pytest.raises((InputError, Unavailable, NotFound)):
                next(open_source(str(tmp_path / name)))
    assert not asked


def test_a_name_and_password_in_an_address_are_used_and_not_passed_on(film: Path) -> None:
    photo = jpeg(pictures(1)[0])
    files = {
        "/closed.jpg": (200, "image/jpeg", photo),
        "/closed": (200, "image/jpeg", photo),
        "/closed.mp4": (200, "video/mp4", film.read_bytes()),
    }
    with web(files, redirects={"/away.jpg": "/closed.jpg"}) as address:
        known = address.replace("http://", "http://user:se%40cret@")
        for path, count in (("/closed.jpg", 1), ("/closed", 1), ("/closed.mp4", 50)):
            with open_source(known + path) as source:
                assert len(list(source)) == count
            with (
                pytest.raises(ModelportError, match=r"401|nauthorized"),
                open_source(address + path) as source,
            ):
                next(source)
        with pytest.raises(Unauthorized):
            fetch(f"{known}/away.jpg", 1 << 20)


def test_names_and_passwords_in_addresses_are_not_shown() -> None:
    assert shown("rtsp://user:secret@host:554/a?b=1") == "rtsp://host:554/a?b=1"
    assert shown("C:\\film.mp4") == "C:\\film.mp4" and shown("a@b.jpg") == "a@b.jpg"
    assert is_url("rtsp://h/x") and not is_url("C:\\a") and not is_url("a.jpg") and not is_url("://x")
    assert shown("http://user:secret@[1::/x") == "http://" and kind_of("http://[1::/x.jpg") == "stream"
    for address in ("http://user:secret@[1::/x", "rtsp://user:secret@[1::/x", "http:///x.jpg"):
        with pytest.raises((InputError, Unavailable)) as failure:
            next(open_source(address))
        assert "secret" not in str(failure.value)
    with pytest.raises(Unavailable) as failure:
        fetch("http://user:secret@127.0.0.1:9/x", 100)
    assert "secret" not in str(failure.value)
