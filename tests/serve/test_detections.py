"""A detector over HTTP: its objects, options wherever they are said, annotated pictures, and attacks."""

from __future__ import annotations

import base64
import io
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from PIL import Image

from modelport.bundle.manifest import Decode
from modelport.errors import NotAcceptable, QueueFull, TooLarge
from modelport.serve import drawing
from modelport.serve.accept import preferred
from modelport.serve.options import MAX_FIELDS

from ..boxes import SCENE, pack_boxes, picture_with
from ..colours import pack_colours, picture, served

PICTURE = picture_with(SCENE)
ENCODED = base64.b64encode(PICTURE).decode()
FOUND = {label: [float(value) for value in box] for label, *box in SCENE}
PATH = "/predict/boxes"


@pytest.fixture(scope="module")
def http(tmp_path_factory: pytest.TempPathFactory) -> Iterator[httpx.Client]:
    folder = tmp_path_factory.mktemp("detections")
    pack_colours(folder)
    repo = pack_boxes(folder)
    with served(repo, "--executors", "1") as (url, server):
        with httpx.Client(base_url=url, timeout=60) as client:
            yield client
        assert server.poll() is None, "the server has ended"


def ask(http: httpx.Client, query: str = "", **more: Any) -> list[dict[str, Any]]:
    reply = http.post(PATH + query, **({"content": PICTURE} | more))
    assert reply.status_code == 200, reply.text
    answer: list[dict[str, Any]] = reply.json()["answer"]
    return answer


def test_objects_with_labels_scores_and_boxes_in_the_pictures_own_pixels(http: httpx.Client) -> None:
    answer = ask(http)
    assert {found["label"]: found["box"] for found in answer} == FOUND
    assert all(found["score"] == pytest.approx(0.8, abs=0.01) for found in answer)
    assert [found["class"] for found in answer] == sorted(["red", "green", "blue"].index(k) for k in FOUND)
    turned = Image.open(io.BytesIO(PICTURE)).convert("RGB")
    file = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 3  # upside down
    turned.transpose(Image.Transpose.ROTATE_180).save(file, "PNG", exif=exif)
    assert {found["label"]: found["box"] for found in ask(http, content=file.getvalue())} == FOUND


def test_options_in_the_query_a_form_and_json_mean_the_same(http: httpx.Client) -> None:
    assert len(ask(http, "?iou_threshold=1")) == 6
    assert ask(http, "?score_threshold=0.85") == []
    assert len(ask(http, "?score_threshold=0.5&iou_threshold=1&class_agnostic=false")) == 6
    form = {"files": {"file": PICTURE}, "content": None}
    assert len(ask(http, data={"iou_threshold": "1"}, **form)) == 6
    assert len(ask(http, "?score_threshold=0.75", data={"iou_threshold": "1"}, **form)) == 3
    json = {"image": ENCODED, "parameters": {"iou_threshold": 1, "class_agnostic": True}}
    assert len(ask(http, json=json, content=None)) == 6
    assert len(ask(http, "?iou_threshold=1", json={"image": ENCODED}, content=None)) == 6
    # The next caller has the bundle's own again.
    assert len(ask(http)) == 3


@pytest.mark.parametrize(
    ("query", "says"),
    [
        ("?threshold=0.5", "score_threshold"),
        ("?score_threshold=high", "0 to 1"),
        ("?score_threshold=nan", "0 to 1"),
        ("?score_threshold=-inf", "0 to 1"),
        ("?score_threshold=1e999", "0 to 1"),
        ("?score_threshold=" + "9" * 6000, "0 to 1"),
        ("?score_threshold=", "0 to 1"),
        ("?score_threshold", "0 to 1"),
        ("?score_threshold=.1&score_threshold=.2", "twice"),
        ("?score_threshold=%ff", "query"),
        ("?class_agnostic=2", "true or false"),
        ("?" + "x" * 5000 + "=1", "no option"),
        ("?" + "&".join(f"a{number}=1" for number in range(MAX_FIELDS + 1)), "query"),
    ],
)
def test_what_is_no_option_is_refused_in_few_words(http: httpx.Client, query: str, says: str) -> None:
    for more in ({"content": PICTURE}, {"files": {"file": PICTURE}}):
        reply = http.post(PATH + query, **more)  # type: ignore[arg-type]
        assert reply.status_code == 400 and says in reply.json()["error"], reply.text
        assert len(reply.content) < 1000


@pytest.mark.parametrize(
    ("parameters", "says"),
    [
        ("5", "object"),
        ('{"score_threshold": NaN}', "JSON"),
        ('{"score_threshold": [[0.1]]}', "0 to 1"),
        ('{"score_threshold": ' + "9" * 500 + "}", "0 to 1"),
        ('{"score_threshold": 0.1, "x": "' + "y" * 5000 + '"}', "bytes of parameters"),
        ("[" * 2000 + "]" * 2000, "object"),
    ],
)
def test_parameters_that_are_no_options_are_refused(http: httpx.Client, parameters: str, says: str) -> None:
    body = f'{{"image": "{ENCODED}", "parameters": {parameters}}}'
    reply = http.post(PATH, content=body, headers={"Content-Type": "application/json"})
    assert reply.status_code == 400 and says in reply.json()["error"], reply.text


def test_an_option_may_not_be_said_in_two_places(http: httpx.Client) -> None:
    reply = http.post(PATH + "?score_threshold=.1", files={"file": PICTURE}, data={"score_threshold": ".2"})
    assert reply.status_code == 400 and "two places" in reply.json()["error"]


def test_bundles_without_options_pass_over_a_forms_fields_but_not_what_the_address_asks_for(
    http: httpx.Client,
) -> None:
    reply = http.post("/predict/colours", files={"file": picture("red")}, data={"x": "y"})
    assert reply.status_code == 200 and reply.json()["answer"][0]["label"] == "red"
    for more in ({"content": picture("red")}, {"files": {"file": picture("red")}, "data": {"x": "y"}}):
        reply = http.post("/predict/colours?top_k=7", **more)  # type: ignore[arg-type]
        assert reply.status_code == 400 and "no option 'top_k'; it has none" in reply.json()["error"]


def test_an_option_is_suggested_by_a_part_of_its_name(http: httpx.Client) -> None:
    reply = http.post(PATH + "?thresh=0.7", content=PICTURE)
    assert reply.status_code == 400
    assert "did you mean 'score_threshold' or 'iou_threshold'?" in reply.json()["error"]


@pytest.mark.parametrize(
    ("accept", "status"),
    [("image/jpeg", 406), ("image/png, image/jpeg;q=.5", 406), ("image/jpeg, */*", 200), ("text/html", 200)],
)
def test_what_draws_nothing_says_so_where_only_a_picture_will_do(
    http: httpx.Client, accept: str, status: int
) -> None:
    reply = http.post("/predict/colours", content=picture("red"), headers={"Accept": accept})
    assert reply.status_code == status
    assert "nothing that is drawn" in reply.text if status == 406 else "red" in reply.text


def test_two_files_in_one_form_are_not_silently_one(http: httpx.Client) -> None:
    files = [("file", ("a.png", picture("red"))), ("file", ("b.png", picture("blue")))]
    reply = http.post("/predict/colours", files=files)
    assert reply.status_code == 400 and "2 files" in reply.json()["error"]


@pytest.mark.parametrize("kind", ["JPEG", "PNG"])
def test_the_annotated_picture(http: httpx.Client, kind: str) -> None:
    wanted = f"image/{kind.lower()}"
    reply = http.post(f"{PATH}?score_threshold=0.5", content=PICTURE, headers={"Accept": wanted})
    assert reply.status_code == 200 and reply.headers["content-type"] == wanted
    assert "Accept" in reply.headers["vary"]
    assert "net;dur=" in reply.headers["server-timing"] and "draw;dur=" in reply.headers["server-timing"]
    drawn = Image.open(io.BytesIO(reply.content))
    assert drawn.format == kind and drawn.size == (320, 240)
    before = np.asarray(Image.open(io.BytesIO(PICTURE)).convert("RGB"), np.int32)
    changed = np.abs(np.asarray(drawn.convert("RGB"), np.int32) - before).max(-1) > 60
    left, top, right, bottom = (int(value) for value in FOUND["blue"])
    assert changed[top + 20 : bottom - 20, left - 2 : left + 3].any(1).all(), "the box's left edge"
    assert not changed[top + 30 : bottom - 30, left + 30 : right - 30].any(), "the inside is as it was"
    nothing = http.post(f"{PATH}?score_threshold=0.9", content=PICTURE, headers={"Accept": "image/png"})
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(nothing.content))), before.astype(np.uint8))


def test_curl_gets_a_picture(http: httpx.Client, tmp_path: Path) -> None:
    (tmp_path / "scene.png").write_bytes(PICTURE)
    command = ["curl", "-sS", "-H", "Accept: image/jpeg", "-F", "file=@scene.png", "-o", "found.jpg"]
    url = str(http.base_url).rstrip("/") + PATH
    subprocess.run([*command, url], cwd=tmp_path, check=True, timeout=60)
    assert Image.open(io.BytesIO((tmp_path / "found.jpg").read_bytes())).size == (320, 240)


def test_what_accept_asks_for(http: httpx.Client) -> None:
    for accept, kind in (
        ("*/*", "application/json"),
        ("image/jpeg;q=0.5, application/json", "application/json"),
        ("image/jpeg, application/json;q=0.9", "image/jpeg"),
        ("image/avif,image/webp,image/png,image/svg+xml,image/*;q=0.8,*/*;q=0.5", "image/png"),
    ):
        reply = http.post(PATH, content=PICTURE, headers={"Accept": accept})
        assert reply.headers["content-type"] == kind, accept
    reply = http.post(PATH, content=PICTURE, headers={"Accept": "text/html"})
    assert reply.status_code == 406 and "image/jpeg" in reply.json()["error"]


OFFERED = ("application/json", "image/jpeg", "image/png")


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        (None, "application/json"),
        ("", "application/json"),
        (" , ", "application/json"),
        ("*/*", "application/json"),
        ("image/*", "image/jpeg"),
        ("image/png", "image/png"),
        ("IMAGE/PNG", "image/png"),
        ("image/*;q=0.9, image/jpeg;q=0.1", "image/png"),
        ("*/*;q=0.1, application/json;q=0", "image/jpeg"),
        ("image/jpeg;level=1;q=0.2, */*;q=0.1", "image/jpeg"),
        ("image/jpeg;q=2, application/json;q=0.1", "application/json"),
        ("image/jpeg;q=nan, application/json;q=0.1", "application/json"),
        ("application/json;charset=utf-8", "application/json"),
    ],
)
def test_negotiation(accept: str | None, kind: str) -> None:
    assert preferred(accept, OFFERED) == kind


@pytest.mark.parametrize("accept", ["text/html", "application/json;q=0", "image", "*/*;q=0", "x" * 9000])
def test_what_is_not_offered_is_refused(accept: str) -> None:
    with pytest.raises(NotAcceptable, match="image/png") as caught:
        preferred(accept, OFFERED)
    assert len(str(caught.value)) < 300


def test_a_picture_too_large_to_be_drawn_on_is_refused_and_the_server_lives(http: httpx.Client) -> None:
    file = io.BytesIO()
    Image.new("L", (9000, 4100), 90).save(file, "PNG")
    reply = http.post(PATH, content=file.getvalue(), headers={"Accept": "image/jpeg"})
    assert reply.status_code == 413 and "JSON" in reply.json()["error"], reply.text
    assert len(ask(http)) == 3


def test_drawing_is_bounded_and_beside_the_event_loop() -> None:
    import asyncio

    async def many() -> list[bytes | BaseException]:
        draw = drawing.Drawing(threads=1, waiting=2)
        work = [draw(PICTURE, Decode(), [], drawing.JPEG) for _ in range(10)]
        results = await asyncio.gather(*work, return_exceptions=True)
        assert isinstance(await draw(PICTURE, Decode(), [], drawing.PNG), bytes), "the queue is free again"
        return results

    results = asyncio.run(many())
    assert [isinstance(each, bytes) for each in results] == [True] * 3 + [False] * 7
    assert all(isinstance(each, QueueFull) for each in results[3:])
    with pytest.raises(TooLarge, match="drawn"):
        drawing.draw(PICTURE, Decode(max_pixels=100), [], drawing.JPEG)


def test_thousands_of_thresholds_at_once_are_answered_each_by_its_own(http: httpx.Client) -> None:
    small = picture_with([("red", 2, 2, 9, 9)], size=(16, 16))

    def one(number: int) -> bool:
        threshold = number / 2000
        reply = http.post(f"{PATH}?score_threshold={threshold}", content=small)
        return reply.status_code == 200 and len(reply.json()["answer"]) == int(threshold < 0.8)

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(one, range(0, 2000, 2)))


def test_the_metrics_count_detections_as_they_count_answers(http: httpx.Client) -> None:
    text = http.get("/metrics").text
    assert 'model="boxes"' in text and "threshold" not in text
