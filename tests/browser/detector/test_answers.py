"""The page of detectors: what it shows and draws is what Python gives for the same bundle and picture."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from playwright.sync_api import Browser, Page, Request, expect

import modelport
from modelport.media.palette import PALETTE, colour_of, text_colour

from ...administration import added_key
from ...colours import served
from ...conftest import ROOT
from ..conftest import CHROMIUM, EVIL, FLAGS, Visit, Watch
from .page import Answer, Found, asked, drag, pixels, show, shown, write

YOLO = ROOT.parent / "shared" / "data" / "yolov5n"


COLOUR_AT = """(canvas, points) => {
  const { data } = canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height);
  return points.map(([x, y]) => [...data.slice(4 * (y * canvas.width + x), 4 * (y * canvas.width + x) + 4)]);
}"""


def hold(page: Page) -> list[int]:
    """Watch the requests for answers: the most that were under way at once, and how many there were."""
    counts = [0, 0, 0]

    def began(request: Request) -> None:
        if "/predict/" in request.url:
            counts[0] += 1
            counts[1] = max(counts[1], counts[0])
            counts[2] += 1

    def ended(request: Request) -> None:
        if "/predict/" in request.url:
            counts[0] -= 1

    page.on("request", began)
    page.on("requestfinished", ended)
    page.on("requestfailed", ended)
    return counts


def shown_live(page: Page) -> Found:
    """As `shown`, while answers keep coming."""
    rows: Found = page.locator("#found li").evaluate_all(
        """rows => rows.map(row => ({
          label: row.querySelector(".name").textContent,
          box: row.dataset.box.split(" ").map(Number),
        }))"""
    )
    return rows


@pytest.mark.parametrize("ratio", [1, 1.5, 2])
def test_boxes_are_drawn_where_python_has_them(
    visit: Visit, answer: Answer, tmp_path: Path, ratio: float
) -> None:
    page = visit("/models/boxes", device_scale_factor=ratio)
    file = write(tmp_path / "scene.png")
    truth = answer(file)
    assert [each["label"] for each in truth] == ["red", "blue", "green"]
    assert show(page, file) == truth
    canvas = page.locator("#boxes")
    frame, across = canvas.bounding_box(), canvas.evaluate("canvas => canvas.width")
    assert frame is not None and frame == page.locator("#picture").bounding_box()
    assert abs(across - frame["width"] * ratio) <= 1  # a pixel of the canvas is one of the screen
    assert frame["width"] / frame["height"] == pytest.approx(320 / 240, rel=0.01)
    drawn = page.locator("#found li").evaluate_all(
        "rows => rows.map(row => row.dataset.drawn.split(' ').map(Number))"
    )
    edges = []
    for each, box in zip(truth, drawn, strict=True):
        scale = frame["width"] / 320
        assert box == pytest.approx([value * scale for value in each["box"]], abs=1)
        left, top, right, bottom = (round(value * ratio) for value in box)
        middle = [(left, (top + bottom) // 2), ((left + right) // 2, bottom)]
        edges += [(point, (*colour_of(each["class"]), 255)) for point in middle]
    seen = canvas.evaluate(COLOUR_AT, [point for point, _ in edges])
    assert [tuple(pixel) for pixel in seen] == [colour for _, colour in edges]  # crisp: no mixture


def test_a_real_detector_on_a_photo(visit: Visit, watch: Watch, tmp_path: Path) -> None:
    photo = YOLO / "bus.jpg"
    if not photo.is_file():
        pytest.skip(f"no {photo}")
    bundle = modelport.pack(
        YOLO / "yolov5n.onnx", out=tmp_path, name="yolov5n", recipe="yolov5", golden=[photo]
    )
    with modelport.Pipeline.open(bundle) as pipeline:
        truth = asked(pipeline, photo)
    assert [(f["label"], round(f["score"], 3)) for f in truth] == [
        ("person", 0.823), ("person", 0.816), ("person", 0.676), ("bus", 0.526)
    ]  # fmt: skip
    with served(tmp_path) as (url, _):
        watch.origin = url
        page = visit(f"{url}/models/yolov5n")
        seen = show(page, photo)
        assert [f["label"] for f in seen] == [f["label"] for f in truth]
        for one, other in zip(seen, truth, strict=True):
            assert one["score"] == pytest.approx(other["score"], abs=1e-4)
            assert one["box"] == pytest.approx(other["box"], abs=0.1)
        page.goto("about:blank")


def test_a_page_that_asks_for_a_key(visit: Visit, bundles: Path, watch: Watch, tmp_path: Path) -> None:
    watch.allow("401")
    key = added_key(tmp_path / "keys.json", "visitor", "infer")
    with served(bundles, "--keys", str(tmp_path / "keys.json")) as (url, _):
        watch.origin = url
        page = visit(f"{url}/models/boxes", filled="#door")
        page.fill("#key", key)
        page.keyboard.press("Enter")
        page.get_by_role("button", name="scene").click()
        expect(page.locator("#top")).to_have_text("3 objects")
        show(page, write(tmp_path / "scene.tiff"))  # for which the page asks a second time
        expect(page.locator("#picture")).to_be_visible()
        page.goto("about:blank")


def test_colours_are_those_of_saved_pictures(visit: Visit) -> None:
    page = visit("/models/boxes")
    count = 3 * len(PALETTE)
    seen = page.evaluate(
        """async count => {
          const { colourOf, inkOn } = await import("/static/boxes.js");
          return Array.from({length: count}, (_, i) => [colourOf(i), inkOn(colourOf(i))]);
        }""",
        count,
    )
    inks = {"#000": (0, 0, 0), "#fff": (255, 255, 255)}
    for index, (colour, ink) in enumerate(seen):
        assert tuple(colour) == colour_of(index)
        assert inks[ink] == text_colour(colour_of(index))


def test_the_threshold_asks_nobody_and_answers_as_the_server_would(
    visit: Visit, answer: Answer, tmp_path: Path
) -> None:
    page = visit("/models/boxes")
    file = write(tmp_path / "scene.png")
    show(page, file)
    requests: list[Request] = []
    page.on("request", lambda request: requests.append(request))
    for threshold, count in ((0.3, 3), (0.5, 2), (0.7, 1), (0.95, 0), (0.05, 3)):
        drag(page, "score_threshold", threshold)
        words = "1 object" if count == 1 else f"{count} objects"
        expect(page.locator("#top")).to_have_text(words)
        assert shown(page) == answer(file, score_threshold=threshold)
        less = f"{3 - count} more below the threshold" if count < 3 else ""
        expect(page.locator("#sure")).to_have_text(less)
        assert f"score_threshold={threshold}'" in page.locator("#code").inner_text()
    assert requests == []


def test_other_options_ask_again(visit: Visit, answer: Answer, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    file = write(tmp_path / "scene.png")
    before = show(page, file)
    with page.expect_response("**/predict/boxes?*iou_threshold=1*"):
        drag(page, "iou_threshold", 1)
    expect(page.locator("#found li")).to_have_count(6)
    assert shown(page) == answer(file, iou_threshold=1.0) != before
    with page.expect_response("**/predict/boxes?*class_agnostic=true*"):
        page.check("#class_agnostic")
    assert "iou_threshold=1&class_agnostic=true" in page.locator("#code").inner_text()
    page.uncheck("#class_agnostic")
    drag(page, "iou_threshold", 0.45)
    expect(page.locator("#found li")).to_have_count(3)
    assert "iou" not in page.locator("#code").inner_text()  # at its default it need not be said


def test_classes_are_counted_and_chosen(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    show(page, write(tmp_path / "scene.png"))
    drag(page, "iou_threshold", 1)
    expect(page.locator("#found li")).to_have_count(6)
    chips = page.locator("#chips button")
    assert [text.split() for text in chips.all_inner_texts()] == [["blue", "2"], ["green", "2"], ["red", "2"]]
    chips.filter(has_text="green").click()
    expect(page.locator("#found .name")).to_have_text(["green", "green"])
    expect(page.locator("#sure")).to_have_text("4 of other classes")
    chips.filter(has_text="blue").focus()
    page.keyboard.press("Space")
    expect(page.locator("#found .name")).to_have_text(["blue", "blue", "green", "green"])
    expect(page.locator("#top")).to_have_text("4 objects")
    drag(page, "score_threshold", 0.5)
    # A class that is asked for stays, with nothing to show.
    assert [text.split() for text in chips.all_inner_texts()] == [["blue", "2"], ["green", "0"], ["red", "2"]]
    chips.filter(has_text="blue").click()
    expect(page.locator("#found li")).to_have_count(0)
    chips.filter(has_text="green").click()
    expect(page.locator("#found .name")).to_have_text(["red", "red", "blue", "blue"])


def test_labels_in_a_crowd_can_be_read(visit: Visit) -> None:
    crowd = [[20 + 24 * (n % 12), 20 + 28 * (n // 12)] for n in range(84)]
    written = visit("/models/boxes").evaluate(
        """async (corners) => {
          const { drawBoxes } = await import("/static/boxes.js");
          const canvas = Object.assign(document.createElement("canvas"), { width: 320, height: 240 });
          const context = canvas.getContext("2d");
          const boxes = corners.map(([x, y]) => [x, y, x + 16, y + 20]);
          const found = boxes.map((box) => ({ label: "face", class: 0, score: 0.9, box }));
          const size = { width: 320, height: 240 };
          let rectangle, texts;
          context.fillRect = (...place) => { rectangle = place; };
          context.fillText = (text) => texts.push(rectangle);
          return [-1, 83].map((lit) => {
            texts = [];
            const drawn = drawBoxes(canvas, found, size, { stroke: 2, letter: 13, lit });
            return [drawn.length, texts];
          });
        }""",
        crowd,
    )
    (boxes, places), (_, with_one_lit) = written
    assert boxes == 84 and 10 < len(places) < 84  # every box, and the labels that there is room for
    for index, (left, top, width, height) in enumerate(places):
        for x, y, across, down in places[:index]:
            assert left >= x + across or x >= left + width or top >= y + down or y >= top + height
    assert len(with_one_lit) == len(places) + 1  # the label of the one that is pointed at is written over all


def test_box_and_row_stand_out_together(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    show(page, write(tmp_path / "scene.png"))
    canvas, rows = page.locator("#boxes"), page.locator("#found li")
    lit = page.locator("#found .lit .name")
    plain = canvas.evaluate("canvas => canvas.toDataURL()")
    rows.nth(1).hover()
    expect(lit).to_have_text("blue")
    assert canvas.evaluate("canvas => canvas.toDataURL()") != plain
    frame = canvas.bounding_box()
    assert frame is not None
    scale = frame["width"] / 320
    page.mouse.move(frame["x"] + 80 * scale, frame["y"] + 60 * scale)
    expect(lit).to_have_text("red")
    page.mouse.move(frame["x"] + 150 * scale, frame["y"] + 20 * scale)  # no box is there
    expect(lit).to_have_count(0)
    assert canvas.evaluate("canvas => canvas.toDataURL()") == plain
    page.locator("#chips button").last.focus()
    page.keyboard.press("Tab")  # one stop for the whole list …
    expect(lit).to_have_text("red")
    page.keyboard.press("ArrowDown")  # … and arrows within
    expect(lit).to_have_text("blue")
    page.keyboard.press("End")
    expect(lit).to_have_text("green")
    page.keyboard.press("Tab")
    expect(lit).to_have_count(0)


def test_the_camera_is_answered_frame_by_frame(
    browser: Browser, url: str, answer: Answer, watch: Watch, tmp_path: Path
) -> None:
    picture = pixels([("blue", 320, 120, 560, 400, 0.7)], (640, 480))
    still = write(tmp_path / "frame.jpg", picture, quality=95)
    film = tmp_path / "film.mjpeg"
    film.write_bytes(still.read_bytes() * 30)
    flags = [*FLAGS, f"--use-file-for-fake-video-capture={film}"]
    kind = browser.browser_type
    with kind.launch(executable_path=CHROMIUM, headless=True, args=flags) as chromium:
        page = chromium.new_context(permissions=["camera"]).new_page()
        page.on("console", watch.console)
        page.on("pageerror", watch.error)
        page.goto(f"{url}/models/boxes")
        counts = hold(page)
        page.click("#camera")
        expect(page.locator("#top")).to_have_text("1 object")
        expect(page.locator("#timing")).to_contain_text(re.compile(r"round trip .* · \d+\.\d frames/s"))
        page.wait_for_function("document.querySelectorAll('#found li').length === 1")
        [seen], [truth] = shown_live(page), answer(still)
        assert seen["label"] == truth["label"] == "blue"
        assert seen["box"] == pytest.approx(truth["box"], abs=8)  # a pixel of the network's picture is 5
        drag(page, "score_threshold", 0.9)
        expect(page.locator("#top")).to_have_text("0 objects")
        with page.expect_response("**/predict/boxes?*iou_threshold=0.6*"):
            drag(page, "iou_threshold", 0.6)
        page.wait_for_timeout(500)
        assert counts[1] == 1 and counts[2] > 3  # one at a time, never a queue
        track = page.evaluate_handle("document.getElementById('video').srcObject.getTracks()[0]")
        page.click("#camera")
        assert track.evaluate("track => track.readyState") == "ended"
        expect(page.locator("#video")).to_be_hidden()
        expect(page.locator("#prompt")).to_be_visible()
        expect(page.locator("#found li")).to_have_count(0)
        before = counts[2]
        page.wait_for_timeout(500)
        assert counts[2] == before


def test_the_calls_that_are_shown_work_as_they_stand(visit: Visit, answer: Answer, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    page = visit("/models/hostile")
    drag(page, "score_threshold", 0.5)
    code = page.locator("#code")
    run = subprocess.run(
        ["sh", "-c", code.inner_text()], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    truth = answer(tmp_path / "picture.jpg", score_threshold=0.5)
    assert [each["class"] for each in truth] == [0, 2]
    assert [
        each | {"label": truth[i]["label"]} for i, each in enumerate(json.loads(run.stdout)["answer"])
    ] == truth
    with Image.open(tmp_path / "boxes.jpg") as drawn, Image.open(tmp_path / "picture.jpg") as plain:
        assert drawn.format == "JPEG" and drawn.size == plain.size
    page.get_by_role("tab", name="Python").click()
    run = subprocess.run(
        [sys.executable, "-c", code.inner_text()], cwd=tmp_path, capture_output=True, timeout=60, check=True
    )
    assert [line.split()[0] for line in run.stdout.decode().splitlines()] == [f["label"] for f in truth]
    page.get_by_role("tab", name="JavaScript").click()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.evaluate(f"""async () => {{
      const picture = await (await fetch("/api/models/hostile/1/samples/0")).blob();
      {code.inner_text()}
    }}""")
    assert [line.split()[0] for line in logged] == [f["label"] for f in truth]


def test_the_answer_as_json_is_that_of_the_threshold(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    found = show(page, write(tmp_path / "scene.png"))
    drag(page, "score_threshold", 0.7)
    page.locator("summary").click()
    data = json.loads(page.locator("#json").inner_text())
    assert data["model"] == "boxes" and data["answer"] == found[:1]


def test_hostile_labels_stay_words(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/hostile")
    found = show(page, write(tmp_path / "scene.png"))
    assert [each["label"] for each in found] == [f"{label} {EVIL}" for label in ("red", "blue", "green")]
    page.locator("#chips button", has_text=f"red {EVIL}").click()
    expect(page.locator("#found li")).to_have_count(1)
    assert page.evaluate("window.evil") is None


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [320, 375, 800])
def test_it_fits_a_narrow_screen(visit: Visit, tmp_path: Path, scheme: str, width: int) -> None:
    view = {"width": width, "height": 700}
    page = visit("/models/hostile", viewport=view, is_mobile=True, has_touch=True, color_scheme=scheme)
    show(page, write(tmp_path / "scene.png"))
    assert page.evaluate("document.documentElement.scrollWidth") == width
    page.locator("#boxes").scroll_into_view_if_needed()
    before = page.evaluate("scrollY")
    frame = page.locator("#boxes").bounding_box()
    assert frame is not None
    scale = frame["width"] / 320
    page.touchscreen.tap(frame["x"] + 80 * scale, frame["y"] + 60 * scale)
    expect(page.locator("#found .lit .name")).to_contain_text("red")
    assert page.evaluate("scrollY") == before  # the page stays where it is


def test_nothing_moves_when_the_answer_comes(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    boxes = "ids => ids.map(id => JSON.stringify(document.getElementById(id).getBoundingClientRect()))"
    ids = ["options", "answer", "calls"]
    wide = write(tmp_path / "scene.png", pixels(size=(320, 240)))
    before = page.evaluate(boxes, ids)
    show(page, wide)
    assert page.evaluate(boxes, ids) == before
