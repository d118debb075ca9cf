"""Pictures of every kind on the detectors' page: where its boxes lie, and what is saved."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from playwright.sync_api import Page, expect

from modelport.media.palette import colour_of

from ...boxes import LABELS
from ..conftest import Visit, Watch
from .page import Answer, Found, pixels, show, write


def turned(picture: np.ndarray) -> tuple[np.ndarray, Image.Exif]:
    """The picture as a camera on its side stores it, and the EXIF that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6  # the stored picture has to be turned clockwise
    return np.rot90(picture), exif


def assert_on_the_picture(page: Page, truth: Found) -> None:
    """The middle of every box, in the picture as it is shown, is of the colour that its label says."""
    image = page.locator("#picture")
    colours = image.evaluate(
        """async (image, points) => {
          await image.decode();
          const { width, height } = image.getBoundingClientRect();
          const canvas = Object.assign(document.createElement("canvas"), { width, height });
          const context = canvas.getContext("2d");
          context.drawImage(image, 0, 0, width, height);
          const { data } = context.getImageData(0, 0, canvas.width, canvas.height);
          const at = ([x, y]) => 4 * (Math.round(y) * canvas.width + Math.round(x));
          return points.map((point) => [...data.slice(at(point), at(point) + 3)]);
        }""",
        page.locator("#found li").evaluate_all(
            """rows => rows.map(row => {
              const [left, top, right, bottom] = row.dataset.drawn.split(" ").map(Number);
              return [(left + right) / 2, (top + bottom) / 2];
            })"""
        ),
    )
    for each, colour in zip(truth, colours, strict=True):
        assert LABELS[int(np.argmax(colour))] == each["label"], (each, colour)


def save(page: Page, folder: Path) -> Image.Image:
    """The picture that the page gives to keep."""
    with page.expect_download() as download:
        page.click("#save")
    download.value.save_as(folder / download.value.suggested_filename)
    return Image.open(folder / download.value.suggested_filename).convert("RGB")


@pytest.mark.parametrize("kind", ["jpg", "png", "webp"])
def test_a_picture_on_its_side_is_upright_in_both(
    visit: Visit, answer: Answer, tmp_path: Path, kind: str
) -> None:
    stored, exif = turned(pixels())
    lossless = {"quality": 98} if kind == "jpg" else {"lossless": True} if kind == "webp" else {}
    file = write(tmp_path / f"turned.{kind}", stored, exif=exif, **lossless)
    page = visit("/models/boxes")
    truth = answer(file)
    assert show(page, file) == truth
    assert truth[0]["box"] == pytest.approx([40, 30, 120, 90], abs=4)
    assert_on_the_picture(page, truth)


def test_a_resolution_in_the_file_moves_no_box(visit: Visit, answer: Answer, tmp_path: Path) -> None:
    # Browsers then give an image half of its pixels as its natural size.
    exif = Image.Exif()
    exif[0x011A] = exif[0x011B] = 144.0
    exif[0x0128] = 2
    exif.get_ifd(0x8769).update({0xA002: 160, 0xA003: 120})
    file = write(tmp_path / "dense.jpg", exif=exif, quality=98)
    page = visit("/models/boxes")
    truth = answer(file)
    assert show(page, file) == truth
    assert page.locator("#picture").evaluate("image => image.naturalWidth") == 160
    assert_on_the_picture(page, truth)


def test_what_is_transparent_is_white_as_the_model_sees_it(
    visit: Visit, answer: Answer, tmp_path: Path
) -> None:
    opaque = np.full((240, 320, 1), 255, np.uint8)
    opaque[100:220, 180:300] = 0  # where the blue one is
    file = write(tmp_path / "clear.png", np.concatenate([pixels(), opaque], axis=2))
    page = visit("/models/boxes", color_scheme="dark")
    assert show(page, file) == answer(file)
    expect(page.locator("#found .name")).to_have_text(["red", "green"])
    assert page.locator("#sheet").evaluate("e => getComputedStyle(e).backgroundColor") == "rgb(255, 255, 255)"
    saved = save(page, tmp_path)
    assert saved.getpixel((240, 160)) == (255, 255, 255)


def test_the_picture_is_saved_in_its_own_size(visit: Visit, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    expect(page.locator("#save")).to_be_disabled()
    show(page, write(tmp_path / "scene.png"))
    page.locator("#chips button", has_text="red").click()
    with save(page, tmp_path) as saved:
        assert saved.size == (320, 240)
        assert saved.getpixel((40, 60)) == colour_of(0)
        assert saved.getpixel((240, 160)) == tuple(pixels()[160, 240])  # blue is not shown: not drawn
        assert saved.getpixel((180, 160)) != colour_of(2)
    assert (tmp_path / "boxes-boxes.png").is_file()


def test_a_photo_of_many_pixels(visit: Visit, answer: Answer, tmp_path: Path) -> None:
    large = Image.fromarray(pixels()).resize((6400, 4800), Image.Resampling.NEAREST)
    file = tmp_path / "large.jpg"
    large.save(file, quality=80)
    page = visit("/models/boxes", viewport={"width": 700, "height": 600})
    assert show(page, file) == answer(file)
    with save(page, tmp_path) as saved:
        assert saved.size == (6400, 4800)


def test_refusals_are_shown_in_words(visit: Visit, watch: Watch, tmp_path: Path) -> None:
    watch.allow(r"status of 4\d\d")
    page = visit("/models/boxes")
    show(page, write(tmp_path / "scene.png"))
    broken = tmp_path / "broken.png"
    broken.write_bytes(b"this is not a picture")
    page.set_input_files("#file", broken)
    expect(page.locator("#oops")).to_be_visible()
    expect(page.locator("#top")).to_have_text("No answer")
    expect(page.locator("#prompt")).to_contain_text("cannot be shown")
    expect(page.locator("#found li")).to_have_count(0)
    expect(page.locator("#save")).to_be_disabled()
    text = tmp_path / "notes.txt"
    text.write_text("words")
    page.set_input_files("#file", text)
    expect(page.locator("#oops")).to_contain_text("is not a picture")
    show(page, write(tmp_path / "again.png"))
    expect(page.locator("#oops")).to_be_hidden()


def test_a_picture_that_only_the_server_can_read(visit: Visit, answer: Answer, tmp_path: Path) -> None:
    page = visit("/models/boxes")
    file = write(tmp_path / "scene.tiff")
    truth = answer(file)
    assert show(page, file) == truth
    assert_on_the_picture(page, truth)


@pytest.mark.parametrize("way", ["drop", "paste", "sample"])
def test_a_picture_from_outside(visit: Visit, tmp_path: Path, way: str) -> None:
    page = visit("/models/boxes")
    if way == "sample":
        page.get_by_role("button", name="scene").click()
    else:
        page.evaluate(
            """([way, bytes]) => {
              const data = new DataTransfer();
              data.items.add(new File([new Uint8Array(bytes)], "scene.png", {type: "image/png"}));
              const options = {bubbles: true, cancelable: true};
              document.body.dispatchEvent(way === "drop"
                ? new DragEvent("drop", {...options, dataTransfer: data})
                : new ClipboardEvent("paste", {...options, clipboardData: data}));
            }""",
            [way, list(write(tmp_path / "scene.png").read_bytes())],
        )
    expect(page.locator("#top")).to_have_text("3 objects")
