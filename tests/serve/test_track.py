"""Tracking sessions at the real server: with the client library `websockets`, and with plain requests."""

from __future__ import annotations

import asyncio
import json
import re
import shutil
import signal
import ssl
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from modelport.serve.guard.keys import Keys, new_key, update, without

from ..boxes import pack_boxes, picture_with
from ..colours import pack_colours, served
from ..track.test_files import pack_looks


def frame(i: int) -> bytes:
    """A red rectangle that goes to the right, 10 pixels a frame."""
    return picture_with([("red", 10 + 10 * i, 60, 60 + 10 * i, 120)])


@pytest.fixture(scope="module")
def repo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tracked")
    pack_colours(folder)
    pack_looks(folder, folder / "repo")
    return pack_boxes(folder)


@pytest.fixture(scope="module")
def url(repo: Path) -> Iterator[str]:
    with served(repo, "--executors", "1", "--cors-origin", "https://app.example") as (url, _):
        yield url


def ws(url: str, model: str = "boxes") -> str:
    return f"ws{url[4:]}/track/{model}"


async def said(socket: ClientConnection) -> dict[str, Any]:
    async with asyncio.timeout(30):
        found = json.loads(await socket.recv())
    assert isinstance(found, dict)
    return found


async def tell(socket: ClientConnection, **wishes: Any) -> dict[str, Any]:
    await socket.send(json.dumps(wishes))
    return await said(socket)


async def test_every_picture_is_answered_in_order_where_that_is_asked(url: str) -> None:
    async with connect(ws(url)) as socket:
        assert (await said(socket))["type"] == "ready"
        lines, zones = ["0.5,0,0.5,1,middle"], ["0,0 0.5,0 0.5,1 0,1,left"]
        ready = await tell(socket, order="all", fps=10, lines=lines, zones=zones, trails=True)
        assert ready == {"type": "ready", "model": "boxes", "version": "1", "order": "all"}
        for i in range(25):
            await socket.send(frame(i))
        answers = [await said(socket) for _ in range(25)]
        assert [each["frame"] for each in answers] == list(range(25))
        assert [each["seconds"] for each in answers] == [i / 10 for i in range(25)]
        assert all([t["track"] for t in each["tracks"]] == [1] for each in answers[1:])
        assert len(answers[9]["trails"]["1"]) == 9
        events = [event for each in answers for event in each["events"]]
        kinds = ["track_started", "zone_entered", "line_crossed", "zone_left"]
        assert [each["event"] for each in events] == kinds
        done = await tell(socket, end=True)
        assert (done["received"], done["dropped"], done["frames"], done["tracks"]) == (25, 0, 25, 1)
        assert done["lines"] == {"middle": {"red": {"in": 0, "out": 1}}}
        assert [each["event"] for each in done["events"]] == ["track_ended"]
        with pytest.raises(ConnectionClosed) as closed:
            await socket.recv()
        assert closed.value.rcvd is not None and closed.value.rcvd.code == 1000


async def test_the_newest_picture_wins_and_the_others_are_counted(url: str) -> None:
    async with connect(ws(url)) as socket:
        await said(socket)
        for i in range(100):
            await socket.send(frame(i % 25))
        await socket.send(json.dumps({"end": True}))
        answers = []
        while (last := await said(socket))["type"] == "tracks":
            answers.append(last)
        assert last["type"] == "summary" and last["received"] == 100
        assert last["dropped"] + len(answers) == 100 and len(answers) >= 1
        frames = [each["frame"] for each in answers]
        assert frames == sorted(frames) and frames[-1] == 99


async def test_the_time_of_a_picture_is_what_its_sender_says(url: str) -> None:
    async with connect(ws(url)) as socket:
        await said(socket)
        await tell(socket, order="all")
        for i, seconds in enumerate((5.0, 5.5, 6.25)):
            await socket.send(json.dumps({"seconds": seconds}))
            await socket.send(frame(i))
            assert (await said(socket))["seconds"] == seconds


async def test_what_cannot_be_is_said_and_the_session_goes_on(url: str) -> None:
    async with connect(ws(url)) as socket:
        await said(socket)
        for text, words in {
            "{": "not JSON",
            '{"lines": ["1,2"]}': "x1,y1,x2,y2",
            '{"zones": 3}': "Expected `array | null`, got `int` at `$.zones`",
            '{"colour": 1}': "unknown setting 'colour'; there are options, order, tracker",
            '{"conf": 0.5}': 'stands in options: {"options": {"score_threshold": 0.5}}',
            '{"tracker": {"min_fames": 1}}': "did you mean 'min_frames'?",
            '{"only": ["rde"]}': "boxes has no label 'rde' at `$.only` — hint: did you mean 'red'?",
            '{"tracker": {"tracker": "magic"}}': "no tracker is called",
            '{"tracker": {"tracker": "deepsort"}}': "need each other",
            '{"appearance": "looks"}': "need each other",
            '{"tracker": {"tracker": "deepsort"}, "appearance": "colours"}': "a vector for each picture",
            '{"options": {"score_threshold": 7}}': "score_threshold",
            '{"options": {"threshold": 0.5}}': "no option",
            '{"seconds": -1}': "time in seconds",
        }.items():
            await socket.send(text)
            answer = await said(socket)
            assert (answer["type"], answer["status"]) == ("error", 400) and words in answer["error"], text
        await socket.send(b"no picture")
        assert (await said(socket))["status"] == 415
        await socket.send(frame(0))
        answer = await said(socket)
        assert answer["type"] == "tracks" and answer["frame"] == 1
        assert "before the first picture" in (await tell(socket, lines=["0,0,1,1"]))["error"]
        assert (await tell(socket, options={"score_threshold": 0.9}))["type"] == "ready"
        await socket.send(frame(1))
        assert (await said(socket))["tracks"] == []


async def test_sessions_are_apart(url: str) -> None:
    async with connect(ws(url)) as one, connect(ws(url)) as other:
        for socket in (one, other):
            await said(socket)
            await tell(socket, order="all", fps=10)
        for i in range(6):
            await one.send(frame(i))
            await other.send(picture_with([("blue", 200 - 10 * i, 20, 260 - 10 * i, 90)]))
        found = [[(await said(s))["tracks"] for _ in range(6)] for s in (one, other)]
        assert {(t["track"], t["label"]) for tracks in found[0] for t in tracks} == {(1, "red")}
        assert {(t["track"], t["label"]) for tracks in found[1] for t in tracks} == {(1, "blue")}


async def test_looks_come_from_another_model(url: str) -> None:
    async with connect(ws(url)) as socket:
        await said(socket)
        wishes = {"tracker": {"tracker": "deepsort"}, "appearance": "looks", "order": "all", "fps": 10}
        assert (await tell(socket, **wishes))["type"] == "ready"
        for i in range(8):
            await socket.send(frame(i) if i != 4 else picture_with([]))
        answers = [await said(socket) for _ in range(8)]
        assert [each["type"] for each in answers] == ["tracks"] * 8
        assert [[t["track"] for t in each["tracks"]] for each in answers[-3:]] == [[1]] * 3


async def test_handshakes_that_are_refused(url: str) -> None:
    for path, status in (("none", 404), ("colours", 400)):
        with pytest.raises(InvalidStatus) as refused:
            await connect(ws(url, path))
        assert refused.value.response.status_code == status
    async with httpx.AsyncClient(base_url=url) as client:
        plain = await client.get("/track/boxes")
        assert plain.status_code == 426 and plain.headers["upgrade"] == "websocket"
        headers = {"connection": "upgrade", "upgrade": "websocket", "sec-websocket-version": "13"}
        assert (await client.get("/track/boxes", headers=headers)).status_code == 400
        key = {"sec-websocket-key": "dGhlIHNhbXBsZSBub25jZQ=="}
        old = headers | key | {"sec-websocket-version": "8"}
        assert (await client.get("/track/boxes", headers=old)).status_code == 400


async def test_pages_of_others_open_nothing(url: str) -> None:
    """A browser opens WebSockets across origins without asking; only Origin tells."""
    own = re.sub("/$", "", url)
    for origin in (own, "https://app.example"):
        async with connect(ws(url), origin=origin) as socket:  # type: ignore[arg-type]
            assert (await said(socket))["type"] == "ready"
    for origin in ("https://evil.example", "null", url.replace("127.0.0.1", "127.0.0.1.evil.example")):
        with pytest.raises(InvalidStatus) as refused:
            await connect(ws(url), origin=origin)  # type: ignore[arg-type]
        assert refused.value.response.status_code == 403


def test_one_picture_a_request(url: str) -> None:
    with httpx.Client(base_url=url) as client:
        begun = client.post("/track/boxes", json={"lines": ["0.5,0,0.5,1"], "fps": 5})
        assert begun.status_code == 201
        where = begun.headers["location"]
        assert where == begun.json()["url"]
        answers = [client.post(where, content=frame(i)).json() for i in range(20)]
        assert [each["frame"] for each in answers] == list(range(20))
        assert {t["track"] for each in answers for t in each["tracks"]} == {1}
        assert client.get(where).json()["lines"] == {"line 1": {"red": {"in": 0, "out": 1}}}
        assert client.post(where, content=b"none").status_code == 415
        late = client.post(where, params={"seconds": "4.3"}, content=frame(20)).json()
        assert late["seconds"] == 4.3 and late["frame"] == 21
        assert client.post(where, params={"seconds": "soon"}, content=frame(20)).status_code == 400
        assert client.post("/track/boxes", content=b"{").status_code == 400
        assert client.post(where.replace("boxes", "colours"), content=frame(0)).status_code == 404
        done = client.delete(where)
        assert [each["event"] for each in done.json()["events"]][-1] == "track_ended"
        for method in ("GET", "POST", "DELETE"):
            assert client.request(method, where).status_code == 404
        assert client.post("/track/boxes/sessions/0123-abc", content=frame(0)).status_code == 404


async def test_pictures_of_many_sessions_share_batches(url: str) -> None:
    async def one(i: int) -> list[int]:
        async with connect(ws(url)) as socket:
            await said(socket)
            await tell(socket, order="all", fps=10)
            for number in range(10):
                await socket.send(frame(number + i % 5))
            return [t["track"] for _ in range(10) for t in (await said(socket))["tracks"]]

    assert await asyncio.gather(*(one(i) for i in range(12))) == [[1] * 9] * 12
    async with httpx.AsyncClient() as client:
        figures = (await client.get(f"{url}/metrics")).text
    found = re.search(r'modelport_batch_rows_sum\{[^}]*model="boxes"[^}]*\} (\S+)', figures)
    if found is not None:
        runs = re.search(r'modelport_batch_rows_count\{[^}]*model="boxes"[^}]*\} (\S+)', figures)
        assert runs is not None and float(found[1]) > float(runs[1])


async def test_keys_hold_for_sessions_too(repo: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secrets: dict[str, str] = {}

    def change(keys: Keys) -> Keys:
        keys, secrets["camera"] = new_key("camera", ("infer",), keys=keys, models=["boxes"])
        keys, secrets["other"] = new_key("other", ("infer",), keys=keys)
        return keys

    update(path, change)
    bearer, theirs = ({"authorization": f"Bearer {each}"} for each in secrets.values())
    with served(repo, "--executors", "1", "--keys", str(path)) as (url, _):
        with pytest.raises(InvalidStatus) as refused:
            await connect(ws(url))
        assert refused.value.response.status_code == 401
        with pytest.raises(InvalidStatus) as refused:
            await connect(ws(url, "colours"), additional_headers=bearer)
        assert refused.value.response.status_code == 403
        async with connect(ws(url), additional_headers=bearer) as socket:
            await said(socket)
            await socket.send(frame(0))
            assert (await said(socket))["type"] == "tracks"
        where = httpx.post(f"{url}/track/boxes", headers=bearer).json()["url"]
        assert httpx.post(url + where, content=frame(0), headers=bearer).status_code == 200
        # A session is its owner's, also where another key may ask the same model.
        assert httpx.post(url + where, content=frame(0), headers=theirs).status_code == 404
        assert httpx.post(url + where, content=frame(0)).status_code == 401


async def test_a_rate_is_one_of_pictures_and_a_lost_key_ends_the_session(repo: Path, tmp_path: Path) -> None:
    path = tmp_path / "keys.json"
    secrets: dict[str, str] = {}

    def change(keys: Keys) -> Keys:
        keys, secrets["slow"] = new_key("slow", ("infer",), keys=keys, rate="4/h")
        keys, secrets["gone"] = new_key("gone", ("infer",), keys=keys)
        return keys

    update(path, change)
    with served(repo, "--executors", "1", "--keys", str(path)) as (url, _):
        bearer = {"authorization": f"Bearer {secrets['slow']}"}
        async with connect(ws(url), additional_headers=bearer) as socket:
            await said(socket)
            await tell(socket, order="all")
            for i in range(6):
                await socket.send(frame(i))
            answers = [await said(socket) for _ in range(6)]
            assert [each.get("status", 200) for each in answers] == [200, 200, 200, 429, 429, 429]
        bearer = {"authorization": f"Bearer {secrets['gone']}"}
        async with connect(ws(url), additional_headers=bearer) as socket:
            await said(socket)
            await socket.send(frame(0))
            assert (await said(socket))["type"] == "tracks"
            update(path, lambda keys: without(keys, "gone"))
            async with asyncio.timeout(60):
                while True:  # the file is looked at every few seconds
                    await socket.send(frame(0))
                    if (answer := await said(socket))["type"] == "error":
                        break
                    await asyncio.sleep(0.2)
            assert answer["status"] == 401
            await socket.wait_closed()
            assert socket.close_code == 1008


@pytest.mark.skipif(not shutil.which("openssl"), reason="certificates are made with openssl")
async def test_over_tls(repo: Path, tmp_path: Path) -> None:
    name = ("-subj", "/CN=x", "-addext", "subjectAltName=IP:127.0.0.1")
    files = ("-keyout", "key.pem", "-out", "cert.pem")
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", *name, *files],
        cwd=tmp_path,
        check=True,
        capture_output=True,
        timeout=60,
    )
    options = ("--tls-cert", str(tmp_path / "cert.pem"), "--tls-key", str(tmp_path / "key.pem"))
    context = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    with served(repo, "--executors", "1", *options) as (url, _):
        async with connect(f"wss{url[5:]}/track/boxes", ssl=context) as socket:
            await said(socket)
            await tell(socket, order="all")
            large = picture_with([("red", 40, 30, 120, 90)], size=(1200, 900), kind="BMP")
            for _ in range(6):
                await socket.send(large)
            assert [(await said(socket))["frame"] for _ in range(6)] == list(range(6))


async def test_a_new_version_takes_over_in_the_middle(tmp_path: Path) -> None:
    repo = pack_boxes(tmp_path)
    later = tmp_path / "later"
    later.mkdir()
    pack_boxes(later, version="2")
    with served(repo, "--executors", "1", "--watch", "200ms") as (url, _):
        async with connect(ws(url)) as socket:
            await said(socket)
            await tell(socket, order="all", fps=10)
            versions, tracks = [], set()
            for i in range(400):
                await socket.send(frame(i % 2))
                answer = await said(socket)
                assert answer["type"] == "tracks", answer
                versions.append(answer["version"])
                tracks |= {each["track"] for each in answer["tracks"]}
                if i == 10:
                    shutil.copytree(later / "repo" / "boxes" / "2", tmp_path / "half")
                    (tmp_path / "half").rename(repo / "boxes" / "2")
                if versions[-1] == "2" and versions.count("2") > 20:
                    break
                await asyncio.sleep(0.05)
            assert versions[0] == "1" and versions[-1] == "2" and versions == sorted(versions)
            assert tracks == {1}


async def test_a_server_that_stops_finishes_and_says_so(repo: Path) -> None:
    with served(repo, "--executors", "1") as (url, process):
        async with connect(ws(url)) as idle, connect(ws(url)) as busy:
            for socket in (idle, busy):
                await said(socket)
            await tell(busy, order="all", fps=10)
            for i in range(4):
                await busy.send(frame(i))
            assert (await said(busy))["frame"] == 0
            process.send_signal(signal.SIGTERM)
            answered = [0]
            async for message in busy:
                answered.append(json.loads(message)["frame"])
            assert answered == list(range(len(answered))) and len(answered) >= 1
            async for _ in idle:
                raise AssertionError("nothing was asked")
            for each in (busy, idle):
                assert each.close_code == 1001
        assert process.wait(30) == 0


async def test_a_picture_that_is_refused_is_counted_once(repo: Path, tmp_path: Path) -> None:
    """By its model, and by the session where no model was asked."""
    shutil.copytree(repo, tmp_path / "repo")

    def counted(url: str, model: str = ".*") -> float:
        text = httpx.get(f"{url}/metrics").text
        series = rf'^modelport_refused_total\{{model="{model}",.*\}} (\S+)$'
        return sum(map(float, re.findall(series, text, re.MULTILINE)))

    with served(tmp_path / "repo", "--executors", "1", "--watch", "200ms") as (url, _):
        async with connect(ws(url)) as socket:
            assert (await said(socket))["type"] == "ready"
            await tell(socket, order="all")
            await socket.send(b"no picture")
            assert (await said(socket))["status"] == 415 and counted(url) == 1
            shutil.rmtree(tmp_path / "repo" / "boxes")
            async with asyncio.timeout(30):
                while httpx.get(f"{url}/v2/models/boxes/ready").status_code == 200:
                    await asyncio.sleep(0.1)
            before = counted(url, model="")  # the series of the model itself end
            await socket.send(frame(1))
            assert (await said(socket))["status"] in (404, 503) and counted(url, model="") == before + 1
