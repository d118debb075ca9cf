"""Digits drawn on the page with a mouse, a finger and keys, and read by the model that ships."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from playwright.sync_api import Page, Route, expect

from ..conftest import ROOT
from .conftest import Watch

SAMPLES = ROOT / "examples" / "digits" / "samples"
STROKES = SAMPLES / "strokes.json"
Open = Callable[..., Page]
Stroke = list[tuple[float, float]]


def strokes(digit: str) -> list[list[Stroke]]:
    """The variants of a handwritten digit: strokes of points, 0 to 1 across the sheet."""
    if not STROKES.is_file():
        pytest.skip(f"no {STROKES}")
    variants: list[list[Stroke]] = json.loads(STROKES.read_text())[digit]
    return variants


def on_sheet(page: Page, stroke: Stroke) -> Stroke:
    """Places on the sheet (0 to 1) as places in the window."""
    box = page.locator("#canvas").bounding_box()
    assert box is not None
    return [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in stroke]


def draw(page: Page, drawing: list[Stroke]) -> None:
    """Draw strokes with the mouse."""
    for stroke in drawing:
        first, *rest = on_sheet(page, stroke)
        page.mouse.move(*first)
        page.mouse.down()
        for point in rest:
            page.mouse.move(*point)
        page.mouse.up()


def settle(page: Page) -> str:
    """Wait until no answer is on its way any more; the digit in large type."""
    expect(page.locator("#answer")).to_have_attribute("aria-busy", "false")
    expect(page.locator("#answer")).not_to_have_class(re.compile(r"\bidle\b"))
    expect(page.locator("#sure")).to_contain_text("%")
    return page.locator("#top").inner_text()


@pytest.mark.parametrize("digit", list("0123456789"))
def test_a_digit_drawn_with_the_mouse_is_read(digits: Open, digit: str) -> None:
    page = digits()
    for variant in strokes(digit):
        with page.expect_response("**/predict/digits"):
            draw(page, variant)
        assert settle(page) == digit
        rows = page.locator("#bars .bar")
        expect(rows).to_have_count(10)
        assert rows.locator(".name").all_inner_texts() == list("0123456789")
        best = page.locator("#bars .best .value").inner_text()
        assert best == page.locator("#sure").inner_text()
        page.click("#clear")


SEVEN = [[(0.25, 0.2), (0.5, 0.2), (0.75, 0.21), (0.65, 0.4), (0.52, 0.65), (0.45, 0.85)]]


def test_clear_undo_and_their_keys(digits: Open) -> None:
    page = digits()
    expect(page.locator("#prompt")).to_be_visible()
    expect(page.locator("#top")).to_have_text("?")
    expect(page.locator("#clear")).to_be_disabled()
    for clear in (
        lambda: page.click("#clear"),
        lambda: page.keyboard.press("Escape"),
        lambda: page.keyboard.press("Delete"),
    ):
        draw(page, SEVEN)
        assert settle(page) == "7"
        expect(page.locator("#prompt")).to_be_hidden()
        clear()
        expect(page.locator("#top")).to_have_text("?")
        expect(page.locator("#prompt")).to_be_visible()
        expect(page.locator("#timing")).to_be_empty()
    page.keyboard.press("Control+z")  # a clear can be taken back …
    assert settle(page) == "7"
    page.click("#undo")  # … and then the stroke
    expect(page.locator("#top")).to_have_text("?")


def test_nothing_moves_when_the_answer_comes(digits: Open) -> None:
    page = digits()
    boxes = "ids => ids.map(id => JSON.stringify(document.getElementById(id).getBoundingClientRect()))"
    ids = ["sheet", "answer", "bars", "timing", "calls"]
    before = page.evaluate(boxes, ids)
    draw(page, SEVEN)
    settle(page)
    assert page.evaluate(boxes, ids) == before


def test_a_finger_draws_and_does_not_scroll(digits: Open) -> None:
    page = digits(has_touch=True, is_mobile=True, viewport={"width": 375, "height": 740})
    client = page.context.new_cdp_session(page)
    stroke = on_sheet(page, SEVEN[0])

    def touch(kind: str, points: list[tuple[float, float]]) -> None:
        client.send(
            "Input.dispatchTouchEvent", {"type": kind, "touchPoints": [{"x": x, "y": y} for x, y in points]}
        )

    touch("touchStart", stroke[:1])
    for at in range(1, len(stroke)):
        (x0, y0), (x1, y1) = stroke[at - 1 : at + 1]
        for part in (0.25, 0.5, 0.75, 1.0):
            touch("touchMove", [(x0 + (x1 - x0) * part, y0 + (y1 - y0) * part)])
    touch("touchEnd", [])
    assert settle(page) == "7"
    assert page.evaluate("scrollY") == 0


def test_keys_draw(digits: Open) -> None:
    page = digits()
    expect(page.locator("#nib")).to_be_hidden()
    page.locator("#canvas").focus()
    page.keyboard.press("Tab")
    page.keyboard.press("Shift+Tab")
    expect(page.locator("#canvas")).to_be_focused()
    expect(page.locator("#nib")).to_be_visible()
    for key in ["ArrowLeft"] * 5 + ["Space"] + ["ArrowRight"] * 9:
        page.keyboard.press(key)
    page.keyboard.down("ArrowDown")
    for _ in range(4):  # both held: the pen goes diagonally
        page.keyboard.press("ArrowLeft")
        page.keyboard.down("ArrowDown")
    for _ in range(3):
        page.keyboard.down("ArrowDown")
    page.keyboard.up("ArrowDown")
    page.keyboard.press("Space")
    assert settle(page) == "7"
    page.keyboard.press("ArrowRight")  # lifted: it moves and draws nothing
    assert settle(page) == "7"


def first_sample(page: Page, url: str) -> str:
    """What the model says of the first sample, asked without the page."""
    source = page.locator("#samples img").first.evaluate("image => image.src")
    picture = page.request.get(source).body()
    reply = page.request.post(f"{url}/predict/digits", data=picture, headers={"Content-Type": "image/png"})
    return str(reply.json()["answer"][0]["label"])


def test_a_sample_and_a_saved_drawing(digits: Open, url: str, tmp_path: Path) -> None:
    page = digits()
    sample = page.locator("#samples button").first
    sample.click()
    assert settle(page) == first_sample(page, url)
    expect(sample).to_have_attribute("aria-pressed", "true")
    draw(page, SEVEN)  # a stroke takes the picture's place
    assert settle(page) == "7"
    expect(sample).to_have_attribute("aria-pressed", "false")
    with page.expect_download() as download:
        page.click("#save")
    saved = tmp_path / "digit.png"
    download.value.save_as(saved)
    with Image.open(saved) as image:
        assert image.size == (280, 280)
        corner, ink = image.convert("L").getpixel((0, 0)), image.convert("L").getpixel((140, 57))
    assert corner == 255 and ink < 40  # dark on white, whatever the colours of the page
    page.click("#clear")
    page.set_input_files("#file", saved)
    assert settle(page) == "7"


@pytest.mark.parametrize("way", ["upload", "drop", "paste"])
def test_a_picture_from_outside(digits: Open, way: str) -> None:
    file = SAMPLES / "7-a.png"
    if not file.is_file():
        pytest.skip(f"no {file}")
    page = digits()
    if way == "upload":
        page.set_input_files("#file", file)
    else:
        page.evaluate(
            """([way, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], "digit.png", {type: "image/png"}));
              const options = {bubbles: true, cancelable: true};
              document.body.dispatchEvent(way === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: data})
                : new ClipboardEvent("paste", {...options, clipboardData: data}));
            }""",
            [way, list(file.read_bytes())],
        )
    assert settle(page) == "7"
    expect(page.locator("#prompt")).to_be_hidden()
    page.keyboard.press("Control+z")
    expect(page.locator("#prompt")).to_be_visible()


def test_one_request_at_a_time_and_the_newest_wins(digits: Open) -> None:
    page = digits()
    held: list[Route] = []
    page.route("**/predict/**", lambda route: held.append(route))
    with page.expect_request("**/predict/digits"):
        draw(page, [[(0.4, 0.1), (0.6, 0.1)]])
    draw(page, SEVEN)
    draw(page, [[(0.1, 0.1), (0.12, 0.12)]])
    page.keyboard.press("Control+z")
    page.keyboard.press("Control+z")
    assert len(held) == 1  # the rest waits, and only the newest of it
    with page.expect_request("**/predict/digits"):
        held[0].continue_()
    page.wait_for_function("document.getElementById('top').textContent !== '?'")
    assert len(held) == 2
    page.click("#clear")  # what is on its way is cancelled and never shown
    held[1].continue_()
    page.unroute("**/predict/**")
    page.wait_for_load_state("networkidle")
    expect(page.locator("#top")).to_have_text("?")


def test_the_calls_that_are_shown_work_as_they_stand(digits: Open, url: str, tmp_path: Path) -> None:
    if not shutil.which("curl"):
        pytest.skip("no curl")
    page = digits()
    truth = first_sample(page, url)
    shown = page.locator("#code").inner_text()
    run = subprocess.run(
        ["sh", "-c", shown], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert json.loads(run.stdout)["answer"][0]["label"] == truth
    page.get_by_role("tab", name="curl").press("ArrowRight")
    expect(page.get_by_role("tab", name="Python")).to_be_focused()
    python = page.locator("#code").inner_text()
    run = subprocess.run(
        [sys.executable, "-c", python], cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True
    )
    assert run.stdout.split()[0] == truth
    page.get_by_role("tab", name="JavaScript").click()
    script = page.locator("#code").inner_text()
    logged: list[str] = []
    page.on("console", lambda message: logged.append(message.text))
    page.evaluate(f"""async () => {{
      const picture = await (await fetch(document.querySelector("#samples img").src)).blob();
      {script}
    }}""")
    assert logged[-1].startswith(truth)


def test_copy_says_that_it_copied(digits: Open) -> None:
    page = digits(permissions=["clipboard-read", "clipboard-write"])
    page.click(".copy")
    expect(page.locator(".copy")).to_have_text("Copied")
    assert page.evaluate("navigator.clipboard.readText()") == page.locator("#code").inner_text()


def test_refusals_are_shown_in_words(digits: Open, watch: Watch, tmp_path: Path) -> None:
    watch.allow(r"status of 4\d\d")
    page = digits()
    noise = tmp_path / "noise.png"
    noise.write_bytes(b"this is not a picture")
    page.set_input_files("#file", noise)
    expect(page.locator("#oops")).to_be_visible()
    assert len(page.locator("#oops").inner_text()) > 10
    expect(page.locator("#top")).to_have_text("?")
    text = tmp_path / "notes.txt"
    text.write_text("words")
    page.set_input_files("#file", text)
    expect(page.locator("#oops")).to_contain_text("is not a picture")
    draw(page, SEVEN)
    assert settle(page) == "7"
    expect(page.locator("#oops")).to_be_hidden()


def test_the_page_of_a_version_asks_that_version(digits: Open, url: str) -> None:
    page = digits()
    version = page.locator("#versions").inner_text().split()[-1]
    asked: list[Any] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(f"{url}/models/digits/{version}", wait_until="networkidle")
    draw(page, SEVEN)
    assert settle(page) == "7"
    assert f"{url}/predict/digits/{version}" in asked
    assert f"/predict/digits/{version}" in page.locator("#code").inner_text()
